// Runs the model off the page's own thread. Messages in: load, generate, stop. Out: what `say` sends.
import {
  AutoModelForCausalLM, AutoTokenizer, InterruptableStoppingCriteria, TextStreamer, env,
} from "./vendor/transformers.js";

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "./"; // beside this file; a whole address would not count as local
env.useBrowserCache = env.useWasmCache = false; // the browser's own cache notices when a file has changed
env.backends.onnx.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
env.backends.onnx.wasm.numThreads = 1; // more would need headers that plain web servers do not send

const stopping = new InterruptableStoppingCriteria();
let model, tokenizer;

const say = (type, fields = {}) => postMessage({ type, ...fields });

// A token is made in one go; between two of them the messages that came in are read, `stop` among them.
const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();
const nextTask = () => new Promise((resolve) => { waiting.push(resolve); channel.port2.postMessage(null); });

async function load({ dtype }) {
  const started = performance.now();
  let bytes = 0;
  const progress_callback = ({ status, file, loaded, total }) => {
    if (status !== "progress" || !file.endsWith(".onnx")) return;
    bytes = total;
    say("progress", { loaded, total });
  };
  await model?.dispose();
  tokenizer ??= await AutoTokenizer.from_pretrained("model");
  model = await AutoModelForCausalLM.from_pretrained("model", { dtype, device: "wasm", progress_callback });
  const forward = model.forward.bind(model);
  model.forward = async (inputs) => { await nextTask(); return forward(inputs); };
  say("ready", { bytes, seconds: (performance.now() - started) / 1000 });
}

async function generate({ prompt, temperature, repetitionPenalty, maxNewTokens }) {
  stopping.reset();
  let tokens = 0, first = 0;
  const streamer = new TextStreamer(tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    callback_function: (text) => say("text", { text }),
    token_callback_function: () => { tokens += 1; first ||= performance.now(); },
  });
  const inputs = tokenizer(prompt || tokenizer.eos_token);
  const room = model.config.max_position_embeddings - inputs.input_ids.dims[1];
  if (room < 1) throw new Error(`The prompt is longer than this model's ${model.config.max_position_embeddings} tokens.`);
  await model.generate({
    ...inputs,
    max_new_tokens: Math.min(maxNewTokens, room),
    do_sample: temperature > 0,
    temperature: temperature || 1,
    top_k: 0,
    top_p: 0.65,
    repetition_penalty: repetitionPenalty,
    streamer,
    stopping_criteria: stopping,
  });
  say("done", { tokens, tokensPerSecond: (1000 * (tokens - 1)) / (performance.now() - first) });
}

const tasks = { load, generate, stop: () => stopping.interrupt() };
onmessage = async ({ data }) => {
  try {
    await tasks[data.type](data);
  } catch (error) {
    say("failed", { message: error.message ?? String(error) });
  }
};
