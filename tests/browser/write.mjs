// Opens the example in headless Chromium, writes from prompts, and prints what it saw as one JSON object.
// Arguments: Chromium, the page's address, a list of requests as JSON, and where to leave a picture (optional).
import { chromium } from "playwright-core";

const [executablePath, address, requests, picture] = process.argv.slice(2);
const { origin } = new URL(address);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-dev-shm-usage", `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${new URL(address).hostname}`],
});
const context = await browser.newContext({ viewport: { width: 900, height: 900 }, serviceWorkers: "block" });
const seen = { version: browser.version(), blocked: [], errors: [], violations: [], texts: [], statuses: [] };

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
  return page.locator("#status").textContent();
};
const slide = (id, value) => page.locator(id).evaluate((input, wanted) => {
  input.min = Math.min(input.min, wanted);
  input.value = wanted;
  input.dispatchEvent(new Event("input"));
}, value);

await page.goto(address);
seen.statuses.push(await settled());
for (const { prompt, dtype, temperature, penalty, length, stop } of JSON.parse(requests)) {
  if (dtype && dtype !== await page.locator("#dtype").inputValue()) {
    await page.locator("#dtype").selectOption(dtype);
    seen.statuses.push(await settled());
  }
  await page.locator("#prompt").fill(prompt);
  await slide("#temperature", temperature);
  await slide("#penalty", penalty);
  await slide("#length", length);
  await page.locator("#prompt").press("Control+Enter");
  if (stop) await page.locator("#stop").click();
  seen.statuses.push(await settled());
  seen.texts.push(await page.locator("#continuation").textContent());
}
if (picture) await page.screenshot({ path: picture, fullPage: true });
await browser.close();
console.log(JSON.stringify(seen));
