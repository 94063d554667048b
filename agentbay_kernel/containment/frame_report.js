// Tells the frame around how high the output is, and what it may not load.
(() => {
  const bound = Function.prototype.bind.bind(Function.prototype.call);
  const described = Object.getOwnPropertyDescriptor;
  const got = (type, name) => bound(described(type.prototype, name).get);
  const does = (type, name) => bound(type.prototype[name]);
  const page = document, root = page.documentElement, to = parent, post = to.postMessage.bind(to);
  const body = got(Document, "body"), child = got(Element, "firstElementChild");
  const after = got(Element, "nextElementSibling"), box = does(Element, "getBoundingClientRect");
  const bottom = got(DOMRectReadOnly, "bottom"), wide = got(DOMRectReadOnly, "width");
  const seen = got(Element, "clientHeight"), whole = got(Element, "scrollHeight");
  const tall = bound(described(window, "innerHeight").get);
  const scrolled = bound(described(window, "scrollY").get);
  const find = does(Element, "querySelectorAll"), search = does(DocumentFragment, "querySelectorAll");
  const count = got(NodeList, "length"), item = does(NodeList, "item");
  const shadow = got(Element, "shadowRoot"), matches = does(Element, "matches");
  const isKnown = does(WeakSet, "has"), know = does(WeakSet, "add");
  const later = setTimeout.bind(window), never = clearTimeout.bind(window);
  const up = Math.ceil, most = Math.max, size = Math.abs, Address = URL, host = got(URL, "host");
  const blocked = got(SecurityPolicyViolationEvent, "blockedURI");

  const flow = () => {
    const from = scrolled(window), first = body(page);
    let low = bottom(box(root));
    for (let node = first && child(first), n = 0; node && n < 500; node = after(node), n++)
      if (wide(box(node))) low = most(low, bottom(box(node)));
    return up(low + from);
  };

  // The lowest edge of what is drawn. Bokeh and Panel draw in shadow roots, long after loading: what
  // is found is watched from here on.
  const drawn = "canvas,svg,img,video,iframe,object,embed", known = new WeakSet();
  const lowest = (within = root, all = find(root, "*")) => {
    let low = 0;
    watchNodes(within, {childList: true, subtree: true});
    for (let at = 0; at < count(all) && at < 5_000; at++) {
      const node = item(all, at), inside = shadow(node), isDrawn = matches(node, drawn);
      if (isDrawn) low = most(low, bottom(box(node)));
      if (inside) low = most(low, lowest(inside, search(inside, "*")));
      if ((!isDrawn && !inside) || isKnown(known, node)) continue;
      know(known, node);
      watch(node);
    }
    return low;
  };

  // A document that fills its frame (`height:100%`) says nothing of its content. Once it has drawn,
  // it is made as high as that, unless what it draws is as high as the frame.
  const natural = new CSSStyleSheet(), off = bound(described(StyleSheet.prototype, "disabled").set);
  natural.replaceSync("html,body{height:auto!important;min-height:0!important}");
  off(natural, true);
  page.adoptedStyleSheets = [natural];
  const quiet = 150, edge = () => most(bottom(box(root)), body(page) ? bottom(box(body(page))) : 0);
  let soon = 0, isLoaded = false, isNatural = false;
  const fills = isQuiet => {
    if (isNatural) return false;
    const filled = edge();
    off(natural, false);
    const content = edge();
    off(natural, true);
    if (size(filled - content) <= 1) return false;
    if (!isLoaded) return true;
    never(soon);
    const low = lowest();
    if (isQuiet !== true) {
      soon = later(measure, quiet, true);
      return true;
    }
    off(natural, false);
    isNatural = low === lowest() && low <= content + 2 && (low || content > 24);
    off(natural, !isNatural);
    if (isNatural) changes.disconnect();
    return !isNatural;
  };

  // What stands outside the flow shows only when it overflows; what is as high as the frame
  // follows it, and must not be followed.
  let least = 0, told = 0, viewport = 0, needed = 0, follows = false;
  const measure = isQuiet => {
    if (follows || !wide(box(root)) || fills(isQuiet)) return;
    const content = flow(), now = tall(window);
    if (whole(root) > seen(root) && whole(root) > content + 1) least = whole(root);
    const height = most(content, least) + now - seen(root);
    follows = viewport && now !== viewport && size(height - needed - (now - viewport)) < 2;
    viewport = now;
    needed = height;
    if (!follows && height !== told) post({agentbayHeight: told = height}, "*");
  };
  const watching = new ResizeObserver(measure), watch = watching.observe.bind(watching);
  const changes = new MutationObserver(measure), watchNodes = changes.observe.bind(changes);
  watch(root);
  addEventListener("DOMContentLoaded", () => { if (body(page)) watch(body(page)); });
  addEventListener("load", measure, true);
  addEventListener("load", () => {
    isLoaded = true;
    measure();
  });
  addEventListener("securitypolicyviolation", event => {
    try { post({agentbayBlocked: host(new Address(blocked(event)))}, "*"); } catch {}
  });
  page.currentScript.remove();
})()
