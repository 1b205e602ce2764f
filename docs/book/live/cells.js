// Live cells: each block of Python can be edited and run. One worker, started by the first press;
// nothing is fetched before. A cell runs after those above it, which run once if they have not yet.
(() => {
  const base = new URL(".", document.currentScript.src);
  const chinese = document.documentElement.lang.startsWith("zh");
  const say = chinese
    ? {
        run: "运行",
        stop: "停止",
        reset: "还原",
        load: "正在载入 Python（约 10 MB，只需一次）",
        wait: "运行中",
        stopped: "已停止；变量都已丢弃。",
        above: "上方有一个单元出错，先看它。",
        error: "Python 无法启动：",
        file: "请通过服务器打开本页：python -m docs.book serve",
      }
    : {
        run: "Run",
        stop: "Stop",
        reset: "Reset",
        load: "Loading Python (about 10 MB, once)",
        wait: "Running",
        stopped: "Stopped; all variables are gone.",
        above: "A cell above failed: look there first.",
        error: "Python did not start: ",
        file: "open this page through a server: python -m docs.book serve",
      };
  if (typeof WebAssembly !== "object") return; // the outputs of the build remain

  let worker = null, next = 0;
  const waiting = new Map();
  const cells = [];

  function python() {
    if (worker) return worker;
    try {
      worker = new Worker(new URL("worker.js", base), { type: "module" });
    } catch (error) {
      end(say.error + (location.protocol === "file:" ? say.file : error.message));
      return null;
    }
    worker.onmessage = ({ data }) => {
      if ("progress" in data) return waiting.forEach((one) => one.progress(data.progress));
      waiting.get(data.id)?.done(data);
      waiting.delete(data.id);
    };
    worker.onerror = (event) => end(say.error + (event.message ?? ""));
    return worker;
  }

  // End the worker; whoever waits is told why.
  function end(why) {
    worker?.terminate();
    worker = null;
    cells.forEach((cell) => (cell.ran = false));
    waiting.forEach((one) => one.done({ output: "", error: why }));
    waiting.clear();
  }

  function ask(source, progress) {
    const id = next++;
    return new Promise((done) => {
      waiting.set(id, { done, progress });
      python()?.postMessage({ id, source });
    });
  }

  class Cell {
    constructor(element) {
      this.element = element;
      this.code = element.querySelector("pre");
      this.written = this.code.innerHTML;
      this.ran = false;
      this.isAnswer = element.classList.contains("answer");
      try {
        this.code.contentEditable = "plaintext-only";
      } catch {
        this.code.contentEditable = "true"; // an older browser
      }
      this.code.spellcheck = false;
      this.code.setAttribute("role", "textbox");
      this.code.setAttribute("aria-multiline", "true");
      this.code.addEventListener("keydown", (event) => this.key(event));
      this.output = element.querySelector(".output pre") ?? this.makeOutput();
      this.output.setAttribute("aria-live", "polite");
      this.bar = document.createElement("progress");
      this.bar.hidden = true;
      this.runButton = this.button(say.run, () => this.press());
      this.stopButton = this.button(say.stop, () => end(say.stopped));
      this.stopButton.disabled = true;
      this.resetButton = this.button(say.reset, () => (this.code.innerHTML = this.written));
      const tools = document.createElement("div");
      tools.className = "cell-tools";
      tools.append(this.runButton, this.stopButton, this.resetButton, this.bar);
      element.insertBefore(tools, this.output.closest(".output"));
    }

    makeOutput() {
      const box = document.createElement("div");
      box.className = "output";
      box.append(document.createElement("pre"));
      this.element.append(box);
      return box.firstChild;
    }

    button(text, press) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.onclick = press;
      return button;
    }

    key(event) {
      if (event.key === "Enter" && (event.shiftKey || event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.press();
      } else if (event.key === "Tab" && !event.shiftKey) {
        event.preventDefault();
        document.execCommand("insertText", false, "    ");
      } else if (event.key === "Escape") {
        this.runButton.focus(); // the way out for the keyboard
      }
    }

    // What is written in the cell, folded or not; a browser may put a <br> for a line's end.
    get source() {
      const copy = this.code.cloneNode(true);
      copy.querySelectorAll("br").forEach((br) => br.replaceWith("\n"));
      return copy.textContent;
    }

    async run() {
      this.output.textContent = say.wait + " …";
      this.output.classList.remove("failed");
      const { output, error } = await ask(this.source, (share) => {
        this.bar.hidden = false;
        this.bar.value = share;
        this.output.textContent = say.load;
      });
      this.bar.hidden = true;
      this.output.textContent = output + error;
      this.output.classList.toggle("failed", error !== "");
      this.ran = error === "";
      return this.ran;
    }

    async press() {
      if (this.runButton.disabled) return;
      cells.forEach((cell) => (cell.runButton.disabled = true));
      this.stopButton.disabled = false;
      const start = performance.now();
      const above = cells.slice(0, cells.indexOf(this)).filter((cell) => !cell.ran && !cell.isAnswer);
      let fine = true;
      for (const cell of above) {
        this.output.textContent = say.wait + " …";
        if (!(fine = await cell.run())) break;
      }
      if (fine) await this.run();
      else this.output.textContent = say.above;
      this.element.dataset.milliseconds = Math.round(performance.now() - start);
      this.stopButton.disabled = true;
      cells.forEach((cell) => (cell.runButton.disabled = false));
    }
  }

  cells.push(...[...document.querySelectorAll(".cell")].map((element) => new Cell(element)));
})();
