// Python in a worker, so that the page stays alive; everything it fetches lies beside this file.
import { loadPyodide } from "./python/pyodide.mjs";

const folder = new URL("./python/", import.meta.url).href;
const fetchFile = self.fetch.bind(self);

// Count what arrives. The type of a response is kept: WebAssembly is compiled while it comes.
async function countBytes() {
  const sizes = await (await fetchFile(folder + "sizes.json")).json();
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  let loaded = 0;
  self.fetch = async (...request) => {
    const response = await fetchFile(...request);
    const counter = new TransformStream({
      transform(chunk, controller) {
        loaded += chunk.byteLength;
        postMessage({ progress: Math.min(loaded / total, 1) });
        controller.enqueue(chunk);
      },
    });
    const { status, headers } = response;
    return new Response(response.body.pipeThrough(counter), { status, headers });
  };
}

async function start() {
  await countBytes();
  const archive = self.fetch(folder + "npllm.zip").then((response) => response.arrayBuffer());
  const python = await loadPyodide({ indexURL: folder, packages: ["numpy"] });
  python.unpackArchive(await archive, "zip", { extractDir: "/npllm" });
  return python.runPython("import sys; sys.path.insert(0, '/npllm'); import live; live");
}

const live = start();

onmessage = async ({ data: { id, source } }) => {
  try {
    const [output, error] = (await live).answer(source).toJs();
    postMessage({ id, output, error });
  } catch (error) {
    postMessage({ id, output: "", error: String(error) });
  }
};
