// Browsers start no worker from a file: a hidden frame stands in, so that search needs no server.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.body.appendChild(document.createElement("iframe"));
      frame.hidden = true;
      const self = (this.self = frame.contentWindow);
      const load = (source) =>
        new Promise((done) => {
          const script = self.document.createElement("script");
          script.src = source;
          script.onload = script.onerror = done;
          self.document.body.appendChild(script);
        });
      self.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      self.importScripts = (...sources) =>
        sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
      this.ready = load(url);
    }

    async postMessage(data) {
      await this.ready;
      const event = new MessageEvent("message", { data });
      this.self.dispatchEvent(event);
      this.self.onmessage?.(event);
    }

    terminate() {
      this.self.frameElement.remove();
    }
  };
