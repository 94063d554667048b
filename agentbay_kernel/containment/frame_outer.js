// In the frame around the output: unpacks it, sizes it, and tells what it may not load.
(() => {
  const frame = document.querySelector("iframe"), note = document.getElementById("note");
  const told = document.getElementById("hosts"), packed = document.getElementById("packed");
  const typed = document.getElementById("typed"), known = new Set(told.textContent.split(", "));
  const root = document.documentElement, can = CSS.supports("frame-sizing", "content-height");
  // The output fills this frame, whatever its height is. In pixels: Chromium takes percentages of the
  // height that the frame had at first, which is none in a frame that was hidden.
  const fill = () => {
    if (innerHeight) frame.style.height = Math.max(innerHeight - note.offsetHeight, LOWEST) + "px";
  };
  // The browser makes this frame as high as its document where it can. The document has the height
  // while it is asked, and more by the spare, which the frame's style takes off.
  let wanted = 0, later = 0;
  const ask = height => {
    root.style.height = SPARE + height + "px";
    try { requestResize(); } catch {}
    root.style.height = "";
  };
  // What is asked may be lost, or replaced by the height at the end of loading: ask for a while.
  // A frame that the user has dragged to a height keeps it.
  const first = 50, last = 10_000;
  const size = (wait = first) => {
    clearTimeout(later);
    fill();
    const needed = wanted + note.offsetHeight;
    if (!can || !wanted || wait > last || innerHeight === needed) return;
    later = setTimeout(size, wait, 2 * wait);
    if (!innerWidth) return;
    // Nothing is done when the same height is asked for again.
    if (wait > first) ask(needed + 1);
    ask(needed);
  };
  addEventListener("resize", () => size());
  addEventListener("load", () => size());
  if (packed) {
    fetch("data:application/gzip;base64," + packed.textContent)
      .then(got => new Response(got.body.pipeThrough(new DecompressionStream("gzip"))).text())
      .then(text => frame.srcdoc = text);
    packed.remove();
  }
  addEventListener("message", event => {
    if (event.source !== frame.contentWindow || !event.data) return;
    const {agentbayBlocked: host, agentbayHeight: height} = event.data;
    if (typeof height === "number" && height > 0) {
      wanted = Math.min(Math.max(Math.ceil(height), LOWEST), HIGHEST);
      size();
    }
    // A host and nothing else, as `jupyter agentbay allow` takes it: it is typed in a terminal.
    if (typeof host !== "string" || host.length > 80 || known.has(host) || known.size > MOST
      || !/^(?!-)[a-z0-9-]+(?<!-)(\.(?!-)[a-z0-9-]+(?<!-))*(:\d{1,5})?$/.test(host)) return;
    known.add(host);
    known.delete("");
    told.textContent = [...known].join(", ");
    typed.textContent += " " + host;
    told.parentNode.hidden = note.hidden = false;
    size();
  });
})()
