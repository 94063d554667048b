// Tells the frame around how high the output is, and what it may not load.
(() => {
  const bound = Function.prototype.bind.bind(Function.prototype.call);
  const got = (type, name) => bound(Object.getOwnPropertyDescriptor(type.prototype, name).get);
  const page = document, root = page.documentElement, to = parent, post = to.postMessage.bind(to);
  const body = got(Document, "body"), child = got(Element, "firstElementChild");
  const after = got(Element, "nextElementSibling"), box = bound(Element.prototype.getBoundingClientRect);
  const bottom = got(DOMRectReadOnly, "bottom"), wide = got(DOMRectReadOnly, "width");
  const seen = got(Element, "clientHeight"), whole = got(Element, "scrollHeight");
  const tall = bound(Object.getOwnPropertyDescriptor(window, "innerHeight").get);
  const scrolled = bound(Object.getOwnPropertyDescriptor(window, "scrollY").get);
  const up = Math.ceil, most = Math.max, size = Math.abs, Address = URL, host = got(URL, "host");
  const blocked = got(SecurityPolicyViolationEvent, "blockedURI");

  // What stands outside the flow shows only when it overflows; what is as high as the frame
  // follows it, and must not be followed.
  let least = 0, told = 0, viewport = 0, needed = 0, follows = false;
  const measure = () => {
    if (follows || !wide(box(root))) return;
    const from = scrolled(window);
    let flow = up(bottom(box(root)) + from);
    const first = body(page);
    for (let node = first && child(first), n = 0; node && n < 500; node = after(node), n++)
      flow = most(flow, up(bottom(box(node)) + from));
    if (whole(root) > seen(root) && whole(root) > flow + 1) least = whole(root);
    const height = most(flow, least) + tall(window) - seen(root), now = tall(window);
    follows = viewport && now !== viewport && size(height - needed - (now - viewport)) < 2;
    viewport = now;
    needed = height;
    if (!follows && height !== told) post({agentbayHeight: told = height}, "*");
  };
  const watching = new ResizeObserver(measure), watch = watching.observe.bind(watching);
  watch(root);
  addEventListener("DOMContentLoaded", () => { if (body(page)) watch(body(page)); });
  addEventListener("load", measure, true);
  addEventListener("securitypolicyviolation", event => {
    try { post({agentbayBlocked: host(new Address(blocked(event)))}, "*"); } catch {}
  });
  page.currentScript.remove();
})()
