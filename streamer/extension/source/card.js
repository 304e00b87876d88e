// The standby picture: plain, so that nobody can be recognised in it.

const WORDS = "One moment, the picture comes back.";

export function drawCard(context, width, height) {
  const fade = context.createLinearGradient(0, 0, 0, height);
  fade.addColorStop(0, "rgb(44 46 51)");
  fade.addColorStop(1, "rgb(25 26 29)");
  context.fillStyle = fade;
  context.fillRect(0, 0, width, height);
  context.font = `${Math.max(Math.round(width / 32), 10)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = "rgb(205 210 216)";
  context.fillText(WORDS, width / 2, height / 2, width * 0.9);
}
