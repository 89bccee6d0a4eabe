// The page: sends the form to the worker and shows what comes back.
const element = (id) => document.getElementById(id);
const form = element("form"), write = element("write"), stop = element("stop"), status = element("status");
const worker = new Worker("./worker.js", { type: "module" });
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function show(state, message) {
  document.body.dataset.state = state;
  status.textContent = message;
  write.disabled = state === "loading" || state === "writing";
  stop.hidden = state !== "writing";
  element("dtype").disabled = write.disabled;
  element("page").ariaBusy = String(state === "writing"); // read aloud once it is whole
}

const heard = {
  progress: ({ loaded, total }) => show("loading", `Loading the model: ${megabytes(loaded)} of ${megabytes(total)}`),
  ready: ({ bytes, seconds }) => {
    const size = bytes ? `${megabytes(bytes)}, ` : "";
    show("ready", `Ready: ${size}loaded in ${seconds.toFixed(1)} s. Nothing you write leaves this page.`);
  },
  text: ({ text }) => element("continuation").append(text),
  done: ({ tokens, tokensPerSecond }) => {
    const rate = tokens > 1 ? `, ${tokensPerSecond.toFixed(0)} tokens a second` : "";
    show("done", `${tokens} tokens${rate}, on your own processor.`);
  },
  failed: ({ message }) => show("failed", message),
};
worker.onmessage = ({ data }) => heard[data.type](data);
worker.onerror = ({ message }) => show("failed", message || "The worker did not start: see README.md for what vendor/ needs.");

function load() {
  show("loading", "Loading the model");
  worker.postMessage({ type: "load", dtype: element("dtype").value });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (write.disabled) return;
  element("given").textContent = element("prompt").value;
  element("continuation").textContent = "";
  element("page").hidden = false;
  show("writing", "Writing");
  worker.postMessage({
    type: "generate",
    prompt: element("prompt").value,
    temperature: element("temperature").valueAsNumber,
    repetitionPenalty: element("penalty").valueAsNumber,
    maxNewTokens: element("length").valueAsNumber,
  });
});
stop.addEventListener("click", () => worker.postMessage({ type: "stop" }));
element("dtype").addEventListener("change", load);
element("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
for (const id of ["temperature", "penalty", "length"]) {
  const shown = element(`${id}-value`);
  const update = () => { shown.textContent = element(id).value; };
  element(id).addEventListener("input", update);
  update();
}
load();
