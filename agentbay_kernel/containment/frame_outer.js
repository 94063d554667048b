// In the frame around the output: unpacks it, sizes it, and tells what it may not load.
(() => {
  const frame = document.querySelector("iframe"), note = document.getElementById("note");
  const told = document.getElementById("hosts"), packed = document.getElementById("packed");
  const typed = document.getElementById("typed"), known = new Set(told.textContent.split(", "));
  const root = document.documentElement, can = CSS.supports("frame-sizing", "content-height");
  // This frame is as high as what is in it, where the browser does that. Else, and where the user
  // has dragged it to another height, the output fills it.
  let wanted = 0;
  const settle = () => {
    const needed = wanted + note.offsetHeight;
    root.className = can && (!wanted || Math.abs(innerHeight - needed) < 2) ? "fits" : "";
  };
  const size = () => {
    if (!can) return;
    root.className = "fits";
    try { requestResize(); } catch {}
    setTimeout(settle, 500);
  };
  settle();
  addEventListener("resize", settle);
  addEventListener("load", size);
  // Seldom, a frame that has started over is never laid out: it starts over once more, three times at
  // most. Its name is what it keeps.
  const again = () => {
    const times = Number(window.name), lost = !root.getBoundingClientRect().height;
    if (!(innerWidth && innerHeight && lost && times < 3)) return;
    window.name = String(times + 1);
    location.reload();
  };
  if (can) for (const later of [1000, 3000, 9000]) setTimeout(again, later);
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
      frame.style.height = wanted + "px";
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
