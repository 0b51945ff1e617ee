/* Search needs a worker, and browsers refuse workers to pages that are opened from a file. There a hidden frame does the work. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.worker = frame.contentWindow;
      // In the frame, what the worker posts goes to the page that holds it.
      this.worker.postMessageToPage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      this.loaded = new Promise((resolve) => (this.worker.finished = resolve));
      const page = frame.contentDocument;
      page.open();
      page.write(
        "<script>var receive = []; var add = addEventListener;" +
          "addEventListener = (kind, call) => (kind === 'message' ? receive.push(call) : add(kind, call));" +
          "postMessage = (data) => postMessageToPage(data);</script>" +
          '<script src="' + url + '" onload="finished()"></script>',
      );
      page.close();
    }

    async postMessage(data) {
      await this.loaded;
      for (const call of this.worker.receive) call(new MessageEvent("message", { data }));
    }

    terminate() {}
  };
}
