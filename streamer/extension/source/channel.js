// The way between a page's own world and the extension's in the same frame: an element that both hold and that is in no
// document, so nobody else hears its events. Texts travel in events, a stream as the element's srcObject.
//
// Both scripts run before the page's first one. Whichever is later finds the other.

const HERE = "vividstream-here";
const WHERE = "vividstream-where";
const SILENT = { name: "NotReadableError", message: "The vividstream extension was changed. Reload the page." };

// In the extension's world. `answer(what, said)` returns {said, stream} or a promise of it, or throws. The returned
// function brings news to the page's world.
export function offerChannel(answer) {
  const node = document.createElementNS("http://www.w3.org/1999/xhtml", "video");
  const here = () => document.dispatchEvent(new MouseEvent(HERE, { relatedTarget: node }));
  const tell = (kind, said, stream = null) => {
    if (stream) node.srcObject = stream;
    node.dispatchEvent(new CustomEvent(kind, { detail: JSON.stringify(said) }));
    if (stream) node.srcObject = null;
  };
  const good = (number, { said = null, stream } = {}) => tell("answer", { number, said }, stream);
  const bad = (number, { name, message, constraint }) => tell("answer", { number, error: { name, message, constraint } });
  node.addEventListener("taken", () => document.removeEventListener(WHERE, here), { once: true });
  node.addEventListener("ask", ({ detail }) => {
    const { number, what, said } = JSON.parse(detail);
    try {
      const answered = answer(what, said);
      if (typeof answered?.then !== "function") return good(number, answered); // before the question's dispatch returns
      answered.then((later) => good(number, later), (error) => bad(number, error));
    } catch (error) {
      bad(number, error);
    }
  });
  document.addEventListener(WHERE, here);
  here();
  return (said) => tell("news", said);
}

// In the page's world. `ask(what, said)` resolves with {said, stream} or rejects with {name, message, constraint};
// `askNow` has the answer when it returns. What the page may change later is kept from before it could.
export function takeChannel(hear) {
  const { addEventListener, removeEventListener, dispatchEvent } = EventTarget.prototype;
  const on = (target, ...rest) => addEventListener.call(target, ...rest);
  const { parse, stringify } = JSON;
  const Custom = CustomEvent;
  const detailOf = getter(Custom.prototype, "detail");
  const streamOf = getter(HTMLMediaElement.prototype, "srcObject");
  const relatedOf = getter(MouseEvent.prototype, "relatedTarget");
  const waiting = new Map();
  let count = 0;
  let node = null;

  function take(event) {
    node = relatedOf(event);
    removeEventListener.call(document, HERE, take);
    on(node, "answer", (event) => {
      const { number, said, error } = parse(detailOf(event));
      const answered = waiting.get(number);
      waiting.delete(number);
      answered?.(error, { said, stream: streamOf(node) });
    });
    on(node, "news", (event) => hear(parse(detailOf(event))));
    dispatchEvent.call(node, new Custom("taken"));
  }

  function put(what, said, answered) {
    if (node === null) return answered(SILENT);
    const number = ++count;
    waiting.set(number, answered);
    dispatchEvent.call(node, new Custom("ask", { detail: stringify({ number, what, said }) }));
  }

  on(document, HERE, take);
  dispatchEvent.call(document, new MouseEvent(WHERE));
  return {
    ask: (what, said = null) => new Promise((resolve, reject) => put(what, said, (error, good) => (error ? reject(error) : resolve(good)))),
    askNow(what, said = null) {
      let outcome = null;
      put(what, said, (error, good) => (outcome = error ? null : good));
      return outcome;
    },
  };
}

export function getter(prototype, name) {
  const { get } = Object.getOwnPropertyDescriptor(prototype, name);
  return (object) => get.call(object);
}
