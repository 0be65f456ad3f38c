// Ask an exported release: a field for each input of the graph, and the best items as a list.
"use strict";

const form = document.getElementById("ask");
const told = document.getElementById("told");
const NULLS = { int64: -(2n ** 63n), string: "", float64: NaN };
const READ = { int64: BigInt, string: String, float64: Number };
const ARRAYS = { int64: (values) => BigInt64Array.from(values), string: (values) => values, float64: (values) => Float64Array.from(values) };

// One row of an input: a value, or a list of them; what is left empty is null.
function tensorOf({ name, type, shape }) {
  const text = form.elements[name].value.trim();
  const values = text ? text.split(",").map((one) => READ[type](one.trim())) : shape.length > 1 ? [] : [NULLS[type]];
  return new ort.Tensor(type, ARRAYS[type](values), shape.length > 1 ? [1, values.length] : [1]);
}

async function ask(session) {
  const started = performance.now();
  const feeds = Object.fromEntries(session.inputMetadata.map((input) => [input.name, tensorOf(input)]));
  const { item_id: ids, score, count } = await session.run(feeds);
  const rows = Array.from({ length: count.data[0] }, (_, at) => `${ids.data[at]}: ${score.data[at].toFixed(4)}`);
  document.getElementById("answer").replaceChildren(...rows.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  told.textContent = `${rows.length} items in ${(performance.now() - started).toFixed(1)} ms`;
}

async function start() {
  ort.env.wasm.numThreads = 1; // more need a page that is isolated from other origins
  const session = await ort.InferenceSession.create("recommend.onnx");
  for (const { name } of session.inputMetadata) {
    const label = document.createElement("label");
    label.append(name, Object.assign(document.createElement("input"), { name, autocomplete: "off" }));
    form.append(label);
  }
  form.append(Object.assign(document.createElement("button"), { textContent: "Recommend" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(session).catch((error) => (told.textContent = String(error)));
  });
  told.textContent = "ready";
}

start().catch((error) => (told.textContent = String(error)));
