// Opens the example in headless Chromium, does what is asked, and prints what it saw as one JSON object.
// Arguments: Chromium and the page's address. On stdin: {asked: texts to write, strings: to turn into ids, window: ids to
// read, picture: path}.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [executablePath, address] = process.argv.slice(2);
const { asked, strings, window, picture } = JSON.parse(readFileSync(0));
const { origin } = new URL(address);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-dev-shm-usage", `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${new URL(address).hostname}`],
});
const context = await browser.newContext({ viewport: { width: 900, height: 900 }, serviceWorkers: "block" });
const seen = { version: browser.version(), blocked: [], errors: [], texts: [], statuses: [], states: [] };

await context.route("**/*", (route) => {
  const url = route.request().url();
  if (url.startsWith(`${origin}/`)) return route.continue();
  seen.blocked.push(url);
  return route.abort();
});
const page = await context.newPage();
page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
page.on("pageerror", (error) => seen.errors.push(String(error)));

const settled = async () => {
  await page.waitForFunction(() => ["ready", "done", "failed"].includes(document.body.dataset.state), null, { timeout: 180_000 });
  seen.states.push(await page.evaluate(() => document.body.dataset.state));
  seen.statuses.push(await page.locator("#status").textContent());
};
const slide = (id, value) => page.locator(id).evaluate((input, wanted) => {
  input.min = Math.min(input.min, wanted);
  input.value = wanted;
  input.dispatchEvent(new Event("input"));
}, value);

await page.goto(address);
await settled();
for (const { prompt, dtype, temperature, penalty, length, stop } of asked) {
  if (dtype && dtype !== await page.locator("#dtype").inputValue()) {
    await page.locator("#dtype").selectOption(dtype);
    await settled();
  }
  await page.locator("#prompt").fill(prompt);
  await slide("#temperature", temperature);
  await slide("#penalty", penalty);
  await slide("#length", length);
  await page.locator("#prompt").press("Control+Enter");
  if (stop) await page.locator("#stop").click();
  await settled();
  seen.texts.push(await page.locator("#continuation").textContent());
}
seen.ids = await page.evaluate(async (texts) => {
  if (!texts.length) return [];
  const { AutoTokenizer, env } = await import("./vendor/transformers.js");
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "./", useBrowserCache: false });
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  return texts.map((text) => tokenizer.encode(text));
}, strings);
// Logits after each token of a window, row after row, of the file that transformers.js opens for each dtype.
seen.logits = await page.evaluate(async (ids) => {
  const { AutoModelForCausalLM, Tensor, env } = await import("./vendor/transformers.js");
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "./", useBrowserCache: false });
  Object.assign(env, { useWasmCache: false });
  Object.assign(env.backends.onnx.wasm, { wasmPaths: new URL("./vendor/", location.href).href, numThreads: 1 });
  const int64 = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  const found = {};
  for (const dtype of ids.length ? ["fp32", "q8"] : []) {
    const model = await AutoModelForCausalLM.from_pretrained("model", { dtype, device: "wasm" });
    const { logits } = await model({ input_ids: int64(ids), attention_mask: int64(ids.map(() => 1)) });
    found[dtype] = Array.from(logits.data);
    await model.dispose();
  }
  return found;
}, window);

// What a keyboard reaches, in its order, and what of it a screen reader could not name.
seen.focusable = await page.evaluate(() => [...document.querySelectorAll("textarea, input, select, button, [tabindex]")]
  .filter((one) => !one.disabled && one.offsetParent).map((one) => one.id));
seen.unnamed = await page.evaluate(() => [...document.querySelectorAll("textarea, input, select, button, article")]
  .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).map((one) => one.id));

if (picture) await page.screenshot({ path: picture, fullPage: true });
await browser.close();
console.log(JSON.stringify(seen));
