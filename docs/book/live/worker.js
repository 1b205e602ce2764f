// Python in a worker, so that the page stays alive; everything it fetches lies beside this file.
// It tells: {progress}, {ready}, for each cell {id, printed} as it prints and {id, error} at its end,
// {fatal} when it cannot go on.
import { loadPyodide } from "./python/pyodide.mjs";

const folder = new URL("./python/", import.meta.url).href;
const fetchFile = self.fetch.bind(self);
let fail;
const failure = new Promise((_, reject) => (fail = reject));

// A file that does not come ends the start: Pyodide itself would go on without it, or wait.
async function fetchWhole(...request) {
  try {
    const response = await fetchFile(...request);
    if (!response.ok) throw new Error(`${response.status} for ${response.url}`);
    return response;
  } catch (error) {
    fail(error);
    throw error;
  }
}

// Count what arrives. The type of a response is kept: WebAssembly is compiled while it comes.
async function countBytes() {
  const sizes = await (await fetchWhole(folder + "sizes.json")).json();
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  let loaded = 0;
  self.fetch = async (...request) => {
    const response = await fetchWhole(...request);
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
  const live = python.runPython("import sys; sys.path.insert(0, '/npllm'); import live, numpy; live");
  postMessage({ ready: true });
  return live;
}

const live = Promise.race([failure, start()]);
const end = (error) => postMessage({ fatal: String(error?.message ?? error) });
live.catch(end);

onmessage = async ({ data: { id, source, number } }) => {
  const python = await live.catch(() => null);
  if (python === null) return; // it was told already
  try {
    const error = python.answer(source, number, (printed) => postMessage({ id, printed }));
    postMessage({ id, error });
  } catch (error) {
    end(error); // Python's own errors are answers; what is thrown here is its end
  }
};
