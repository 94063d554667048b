// In the frame around the output: unpacks it, sizes it, and tells what it may not load.
(() => {
  const frame = document.querySelector("iframe"), note = document.getElementById("note");
  const told = document.getElementById("hosts"), packed = document.getElementById("packed");
  const known = new Set(told.textContent.split(", "));
  // Else this frame's own height is fixed, and the output's fills it.
  const fits = CSS.supports("frame-sizing", "content-height") && window.requestResize;
  const ask = () => { try { requestResize(); } catch {} };
  const size = () => fits && requestAnimationFrame(ask);
  if (fits) document.documentElement.className = "fits";
  addEventListener("load", size);
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
      frame.style.height = Math.min(Math.max(Math.ceil(height), LOWEST), HIGHEST) + "px";
      size();
    }
    if (typeof host !== "string" || !/^[\w.:-]{1,80}$/.test(host) || known.has(host)
      || known.size > MOST) return;
    known.add(host);
    known.delete("");
    told.textContent = [...known].join(", ");
    told.parentNode.hidden = note.hidden = false;
    size();
  });
})()
