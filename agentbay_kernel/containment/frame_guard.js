// The first thing in every document with output. The policy lets no script of a document run but
// this one, and what it starts: a document without it is inert, however it was made.
(() => {
  const bound = Function.prototype.bind.bind(Function.prototype.call);
  const described = Object.getOwnPropertyDescriptor;
  // WebRTC obeys no policy in Chromium. What remains of it ends everything here.
  const left = name => /^(webkit|moz)?RTC|^WebTransport/.test(name);
  for (const name of Object.getOwnPropertyNames(window).filter(left)) delete window[name];
  if (Object.getOwnPropertyNames(window).some(left)) return;

  // The output can replace every built-in later, and names of elements hide those of the document.
  const got = (type, name) => bound(described(type.prototype, name).get);
  const does = (type, name) => bound(type.prototype[name]);
  const current = got(Document, "currentScript"), state = got(Document, "readyState");
  const create = does(Document, "createElementNS"), space = got(Element, "namespaceURI");
  const previous = got(Node, "previousSibling"), connected = got(Node, "isConnected");
  const remove = does(Element, "remove"), replace = does(Element, "replaceWith");
  const names = does(Element, "getAttributeNames"), has = does(Element, "hasAttribute");
  const read = does(Element, "getAttribute"), write = does(Element, "setAttribute");
  const content = bound(described(Node.prototype, "textContent").get);
  const fill = bound(described(Node.prototype, "textContent").set);
  const inOrder = bound(described(HTMLScriptElement.prototype, "async").set);
  const listen = does(EventTarget, "addEventListener"), dispatch = does(EventTarget, "dispatchEvent");
  const stop = does(Event, "stopImmediatePropagation"), path = does(Event, "composedPath");
  const target = got(Event, "target"), matches = does(RegExp, "test"), push = does(Array, "push");
  const shift = does(Array, "shift"), isOurs = does(WeakSet, "has"), take = does(WeakSet, "add");
  const directive = got(SecurityPolicyViolationEvent, "effectiveDirective");
  const blocked = got(SecurityPolicyViolationEvent, "blockedURI");
  const html = "http://www.w3.org/1999/xhtml";
  const define = Object.defineProperty, page = document, Made = Function, Told = Event;
  const isScript = node => node instanceof HTMLScriptElement || node instanceof SVGScriptElement;
  const runs = /^(module|importmap|(text|application)\/(x-)?(java|ecma)script[\d.]*)?$/i;

  // A script that is loaded holds up those after it, and the page's events, as the parser would.
  let loading = false, held = [];
  const queue = [];
  // Started once: one that is blocked is reported like those of the output.
  const started = new WeakSet();
  const start = old => {
    if (!connected(old)) return;
    // Of HTML, as an inline script of SVG is blocked whoever makes it.
    const fresh = create(page, html, "script"), all = names(old);
    for (let at = 0; at < all.length; at++) write(fresh, all[at], read(old, all[at]));
    if (space(old) !== html) {
      const address = read(old, "href") || read(old, "xlink:href");
      if (address) write(fresh, "src", address);
    }
    take(started, fresh);
    const later = has(old, "async") || has(old, "defer") || /^module/i.test(read(old, "type"));
    if (!has(old, "async")) inOrder(fresh, false);
    fill(fresh, content(old));
    handle(fresh);
    if (has(fresh, "src") && !later) {
      loading = true;
      listen(fresh, "load", next);
      listen(fresh, "error", next);
    }
    replace(old, fresh);
  };
  const next = () => {
    loading = false;
    while (queue.length && !loading) start(shift(queue));
    if (loading) return;
    const events = held;
    held = [];
    for (let at = 0; at < events.length; at++)
      dispatch(events[at] === "load" ? window : page, new Told(events[at], {bubbles: true}));
  };
  const run = script => {
    if (!isScript(script) || isOurs(started, script)) return;
    if (!matches(runs, read(script, "type") || "")) return;
    loading ? push(queue, script) : start(script);
  };
  const hold = event => {
    if (!loading || (target(event) !== page)) return;
    push(held, event.type);
    stop(event);
  };
  listen(window, "DOMContentLoaded", hold, true);
  listen(window, "load", hold, true);
  define(page, "readyState", {configurable: true, get: () => loading ? "loading" : state(page)});

  // Handlers in attributes, and scripts that document.write made.
  const ours = new WeakSet();
  const handle = element => {
    const all = names(element);
    for (let at = 0; at < all.length; at++) {
      const name = all[at], before = element[name];
      if (name[0] !== "o" || name[1] !== "n" || (before && !isOurs(ours, before))) continue;
      const code = `with(document)with(this.form||{})with(this){${read(element, name)}\n}`;
      take(ours, element[name] = new Made("event", code));
    }
  };
  listen(window, "securitypolicyviolation", event => {
    const node = path(event)[0], what = directive(event);
    if (!(node instanceof Element)) return;
    if (what === "script-src-attr") handle(node);
    else if (what === "script-src-elem" && blocked(event) === "inline") run(node);
  });

  // Stands after every script of the output.
  define(window, "agentbayRun", {value: () => {
    const here = current(page), script = here && previous(here);
    if (here) remove(here);
    if (script) run(script);
  }});
  remove(current(page));
})()
