// Copies what the page loads into vendor/, so that nothing comes from another server:
// transformers.js, and onnxruntime in WebAssembly (half the size of the one that also knows WebGPU).
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const here = new URL("./", import.meta.url);
const file = (name) => new URL(name, here);
const runtime = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

mkdirSync(file("vendor"), { recursive: true });
for (const name of runtime) copyFileSync(file(`node_modules/onnxruntime-web/dist/${name}`), file(`vendor/${name}`));

// A worker has no import map: the two packages that the library names become the file beside it.
let library = readFileSync(file("node_modules/@huggingface/transformers/dist/transformers.web.min.js"), "utf8");
for (const name of ["onnxruntime-web/webgpu", "onnxruntime-common"]) {
  const imported = `from"${name}"`;
  if (!library.includes(imported)) throw new Error(`transformers.js no longer imports ${name}: look at vendor.mjs`);
  library = library.replaceAll(imported, 'from"./ort.wasm.min.mjs"');
}
writeFileSync(file("vendor/transformers.js"), library);
