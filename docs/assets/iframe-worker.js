// A page that is opened from a disk may start no worker, so its search runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.scope = new Promise((ready) => {
        frame.addEventListener("load", () => ready(frame.contentWindow));
      });
      // What the script posts goes to this worker's listeners; a window would post it to itself.
      window.heard = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      frame.srcdoc = `<script>postMessage = (data) => parent.heard(data)<\/script><script src="${url}"><\/script>`;
      document.body.append(frame);
    }

    postMessage(data) {
      this.scope.then((scope) => scope.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
