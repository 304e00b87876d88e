// A dropped file to POST /verify, and what comes back to words.

const answers = {
  "marked": "Marked: this was made with a face swapper of this kind.",
  "changed": "Changed: its credentials do not fit the file.",
  "not marked": "Nothing was found. That does not say that it is genuine.",
};

const names = {
  audit_sha256: "Line of the audit log",
  consent_sha256: "Consent",
  consent_until: "Consent ends",
  engine: "Engine",
  frames_drawn: "Pictures drawn",
  instance: "Installation",
  label: "Visible label",
  person_exists: "The face is of a real person",
};
const words = {
  true: "yes",
  false: "no",
  none: "none",
  trusted: "whole, and their signer is trusted here",
  "unknown signer": "whole; their signer is not known here",
  broken: "they do not fit the file",
};

const mostBytes = 200_000_000; // as streamer/verify/http.py has it
const answer = document.getElementById("answer");
const facts = document.getElementById("facts");

function add(name, value) {
  if (value === null || value === undefined || value === "") return;
  const row = document.createElement("tr");
  const term = document.createElement("th");
  const said = document.createElement("td");
  term.scope = "row";
  term.textContent = names[name] ?? name;
  said.textContent = words[value] ?? String(value);
  row.append(term, said);
  facts.append(row);
}

function show(verdict) {
  answer.textContent = answers[verdict.answer] ?? verdict.error;
  facts.replaceChildren();
  if (verdict.error) return;
  const { mark, credentials } = verdict;
  if (mark) {
    const looked = mark.frames === 1 ? "1 picture" : `${mark.frames} pictures`;
    add("Invisible mark", `${mark.marked ? "found" : "not found"} in ${looked}`);
    if (mark.marked) add("Chance in an unmarked clip", chance(mark.false_positive_log10));
    if (mark.payload) add("Says", `installation ${mark.payload.instance}, ${mark.payload.day}`);
  } else add("Invisible mark", "not looked for: no pictures could be read");
  add("Content credentials", credentials.state);
  for (const link of credentials.chain) add("Signed", `${link.tool}, by ${link.signer} ${link.source_types.join(", ")}`);
  add("Do not fit", credentials.failures.join(", "));
  for (const [name, fact] of Object.entries(credentials.swap)) add(name, fact);
  add("Mark and credentials disagree", verdict.disagreement);
}

function chance(powerOfTen) {
  return powerOfTen < -300 ? "nil" : `1 in 10^${Math.round(-powerOfTen)}`;
}

let last; // what was dropped last: an answer to what was dropped before comes too late

async function look(file) {
  last = file;
  document.body.dataset.state = "looking";
  answer.textContent = `Looking at ${file.name}...`;
  facts.replaceChildren();
  const verdict = file.size > mostBytes
    ? { error: `${file.name} is larger than ${mostBytes / 1e6} MB; vividstream verify looks at files of any size` }
    : await asked(file);
  if (file !== last) return;
  document.body.dataset.state = "done";
  show(verdict);
}

async function asked(file) {
  const query = new URLSearchParams({ name: file.name });
  try {
    const response = await fetch(`/verify?${query}`, { method: "POST", body: file });
    const text = await response.text();
    return text.startsWith("{") ? JSON.parse(text) : { error: text };
  } catch (error) {
    return { error: `the server cannot be reached: ${error.message}` };
  }
}

document.getElementById("file").addEventListener("change", (event) => {
  if (event.target.files[0]) look(event.target.files[0]);
});
const place = document.getElementById("drop");
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  place.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) place.classList.remove("over"); // out of the window, not onto another element
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  place.classList.remove("over");
  if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
  else show({ error: "that is no file: save it first, and drop it then" });
});
