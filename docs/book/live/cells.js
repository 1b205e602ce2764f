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
        code: "代码，单元",
        keys: "Shift+Enter 运行，Escape 离开编辑框。",
        load: "正在载入 Python（压缩后约 10 MB）",
        wait: "运行中 …",
        stopped: "已停止；变量都已丢弃。",
        above: "上方有一个单元出错，先看它。",
        error: "Python 无法启动：",
        crash: "Python 已终止，变量都已丢弃：",
        file: "请通过服务器打开本页：python -m docs.book serve",
        old: "浏览器可能太旧",
      }
    : {
        run: "Run",
        stop: "Stop",
        reset: "Reset",
        code: "Code, cell",
        keys: "Shift+Enter runs it, Escape leaves the editor.",
        load: "Loading Python (about 10 MB, compressed)",
        wait: "Running …",
        stopped: "Stopped; all variables are gone.",
        above: "A cell above failed: look there first.",
        error: "Python did not start: ",
        crash: "Python has ended, and all variables are gone: ",
        file: "open this page through a server: python -m docs.book serve",
        old: "the browser may be too old",
      };
  if (typeof WebAssembly !== "object") return; // the outputs of the build remain

  let worker = null, ready = false, busy = false, next = 0;
  const waiting = new Map();
  const cells = [];

  function python() {
    if (worker) return worker;
    try {
      worker = new Worker(new URL("worker.js", base), { type: "module" });
    } catch (error) {
      fatal(error.message);
      return null;
    }
    worker.onmessage = ({ data }) => {
      if ("progress" in data) waiting.forEach((one) => one.progress(data.progress));
      else if ("ready" in data) {
        ready = true;
        waiting.forEach((one) => one.progress(null));
      } else if ("fatal" in data) fatal(data.fatal);
      else if ("printed" in data) waiting.get(data.id)?.print(data.printed);
      else {
        waiting.get(data.id)?.done(data);
        waiting.delete(data.id);
      }
    };
    worker.onerror = (event) => fatal(event.message ?? say.old);
    return worker;
  }

  function fatal(message) {
    if (location.protocol === "file:") message = say.file;
    end((ready ? say.crash : say.error) + message);
  }

  // End the worker; whoever waits is told why.
  function end(why) {
    worker?.terminate();
    worker = null;
    ready = false;
    cells.forEach((cell) => (cell.ran = false));
    waiting.forEach((one) => one.done({ ended: why }));
    waiting.clear();
  }

  function ask(source, number, progress, print) {
    const id = next++;
    return new Promise((done) => {
      waiting.set(id, { done, progress, print });
      python()?.postMessage({ id, source, number });
    });
  }

  // A cell that is changed or run again: what those after it did does not count any more.
  function forget(cell) {
    cells.slice(cells.indexOf(cell)).forEach((one) => {
      one.ran = false;
      one.changed = true;
    });
  }

  class Cell {
    constructor(element, number) {
      this.element = element;
      this.number = number;
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
      this.code.setAttribute("aria-label", `${say.code} ${number}`);
      this.code.setAttribute("aria-description", say.keys);
      this.code.title = say.keys;
      this.code.addEventListener("keydown", (event) => this.key(event));
      this.code.addEventListener("input", () => forget(this));
      this.output = element.querySelector(".output pre") ?? this.makeOutput();
      this.output.setAttribute("aria-live", "polite");
      this.built = this.output.textContent;
      this.bar = document.createElement("progress");
      this.bar.setAttribute("aria-label", say.load);
      this.bar.hidden = true;
      this.runButton = this.button(say.run, () => this.press());
      this.stopButton = this.button(say.stop, () => end(say.stopped));
      this.stopButton.disabled = true;
      this.resetButton = this.button(say.reset, () => this.reset());
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
      button.setAttribute("aria-label", `${text} ${this.number}`);
      button.onclick = press;
      return button;
    }

    reset() {
      if (this.running) end(say.stopped);
      this.isReset = true;
      this.code.innerHTML = this.written;
      this.show(this.built);
      forget(this);
    }

    show(text, failed = false) {
      this.output.textContent = text;
      this.output.classList.toggle("failed", failed);
    }

    key(event) {
      if (event.key === "Enter" && (event.shiftKey || event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.press();
      } else if (event.key === "Tab" && !event.shiftKey) {
        event.preventDefault();
        document.execCommand("insertText", false, "    ");
      } else if (event.key === "Escape") {
        (busy ? this.stopButton : this.runButton).focus(); // the way out for the keyboard
      }
    }

    // What is written in the cell, folded or not; a browser may put a <br> for a line's end.
    get source() {
      const copy = this.code.cloneNode(true);
      copy.querySelectorAll("br").forEach((br) => br.replaceWith("\n"));
      return copy.textContent;
    }

    // Return nothing where all went well, else what the cell that was pressed has to say.
    async run() {
      forget(this);
      this.changed = this.isReset = false;
      this.running = true;
      this.show(say.wait);
      let printed = "";
      const progress = (share) => {
        this.bar.hidden = share === null;
        if (share !== null) this.bar.value = share;
        this.show(share === null ? say.wait : say.load);
      };
      const print = (text) => {
        if (!printed) this.show("");
        printed += text;
        this.output.append(text);
      };
      const { error = "", ended } = await ask(this.source, this.number, progress, print);
      this.bar.hidden = true;
      this.running = false;
      if (ended && printed && !printed.endsWith("\n")) printed += "\n";
      if (this.isReset) this.show(this.built);
      else this.show(printed + (ended ?? error), Boolean(ended || error));
      this.ran = !ended && error === "" && !this.changed; // what was typed meanwhile did not run
      if (error) this.element.closest("details")?.setAttribute("open", "");
      return ended ?? (error && say.above);
    }

    async press() {
      if (busy) return;
      busy = true;
      cells.forEach((cell) => cell.runButton.setAttribute("aria-disabled", "true"));
      this.stopButton.disabled = false;
      const above = cells.slice(0, cells.indexOf(this)).filter((cell) => !cell.ran && !cell.isAnswer);
      let wrong = "";
      for (const cell of above) {
        this.show(say.wait);
        if ((wrong = await cell.run())) break;
      }
      if (wrong) this.show(wrong, true);
      else await this.run();
      if (document.activeElement === this.stopButton) this.runButton.focus();
      this.stopButton.disabled = true;
      cells.forEach((cell) => cell.runButton.removeAttribute("aria-disabled"));
      busy = false;
    }
  }

  document.querySelectorAll(".cell").forEach((element, n) => cells.push(new Cell(element, n + 1)));
})();
