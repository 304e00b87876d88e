// A dropped file to POST /verify, and what comes back to words.

const answers = {
  "marked": "Marked: this was made with a face swapper of this kind.",
  "changed": "Changed: its credentials do not fit the file.",
  "not marked": "Nothing was found. That does not say that it is genuine.",
};

const answer = document.getElementById("answer");
const facts = document.getElementById("facts");

function add(name, value) {
  if (value === null || value === undefined || value === "") return;
  const term = document.createElement("dt");
  const said = document.createElement("dd");
  term.textContent = name;
  said.textContent = String(value);
  facts.append(term, said);
}

function show(verdict) {
  answer.textContent = answers[verdict.answer] ?? verdict.error;
  facts.replaceChildren();
  if (verdict.error) return;
  const { mark, credentials } = verdict;
  if (mark) {
    add("Invisible mark", mark.marked ? `found in ${mark.frames} pictures` : `not found in ${mark.frames} pictures`);
    if (mark.marked) add("Chance in an unmarked clip", `1e${Math.round(mark.false_positive_log10)}`);
    if (mark.payload) add("Says", `installation ${mark.payload.instance}, ${mark.payload.day}`);
  }
  add("Content credentials", credentials.state);
  for (const link of credentials.chain) add("Signed", `${link.tool}, by ${link.signer} ${link.source_types.join(", ")}`);
  add("Do not fit", credentials.failures.join(", "));
  for (const [name, fact] of Object.entries(credentials.swap)) add(name, fact);
  add("Mark and credentials disagree", verdict.disagreement);
}

async function look(file) {
  answer.textContent = `Looking at ${file.name}...`;
  facts.replaceChildren();
  const query = new URLSearchParams({ name: file.name });
  try {
    const response = await fetch(`/verify?${query}`, { method: "POST", body: file });
    const text = await response.text();
    show(text.startsWith("{") ? JSON.parse(text) : { error: text });
  } catch (error) {
    show({ error: `the server cannot be reached: ${error.message}` });
  }
}

document.getElementById("file").addEventListener("change", (event) => {
  if (event.target.files[0]) look(event.target.files[0]);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
});
