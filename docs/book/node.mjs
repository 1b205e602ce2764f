// node node.mjs SITE: run the cells of pages in the site's own Python, without a network.
// In, as JSON: {page: [source, ...]}; out, a line a cell: {page, number, output, error, seconds}.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv[2], "live", "python") + "/";
globalThis.fetch = (address) => {
  throw new Error("asked the network for " + address);
};
const pages = JSON.parse(readFileSync(0, "utf8"));
const { loadPyodide } = await import(pathToFileURL(folder + "pyodide.mjs"));
const python = await loadPyodide({ indexURL: folder, packages: ["numpy"], stdout: () => {} });
const archive = new Uint8Array(readFileSync(folder + "npllm.zip"));
python.unpackArchive(archive, "zip", { extractDir: "/npllm" });
const live = python.runPython("import sys; sys.path.insert(0, '/npllm'); import live; live");
for (const [page, sources] of Object.entries(pages)) {
  live.begin();
  for (const [number, source] of sources.entries()) {
    const start = performance.now();
    let output = "";
    const error = live.answer(source, number, (text) => (output += text));
    const seconds = (performance.now() - start) / 1000;
    console.log(JSON.stringify({ page, number, output, error, seconds }));
  }
}
