// Lists the variables of the sandbox's JavaScript: name, type, length, size, short value.
//
// It runs no code of the user: no getter, no trap of a proxy, no toString.
// In: the global object, whether a name is Node's, `util.types.isProxy`, and a function that reads a
// global without running a getter that may be the user's. Out: {rows, total}.
(({ world, isNodes, isProxy, read }) => {
  const [MOST_ROWS, LONGEST, MOST_PARTS] = [500, 120, 5];
  const cut = (text) => (text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 1)}\u2026`);
  const own = (value, name) => Object.getOwnPropertyDescriptor(value, name);
  const ofPrototype = (kind, name) => own(kind.prototype, name).get;
  const sizes = [[Map, 'size'], [Set, 'size'], [Object.getPrototypeOf(Uint8Array), 'length'], [ArrayBuffer, 'byteLength']].map(([kind, name]) => ofPrototype(kind, name));
  const bytes = [ofPrototype(Object.getPrototypeOf(Uint8Array), 'byteLength'), ofPrototype(ArrayBuffer, 'byteLength')];
  const first = (getters, value) => {
    for (const get of getters) {
      // It throws for a value of another type.
      try { return Reflect.apply(get, value, []); } catch { continue; }
    }
    return null;
  };
  const maker = (value) => {
    const made = Object.getPrototypeOf(value);
    if (made === null) return 'Object';
    const found = isProxy(made) ? undefined : own(made, 'constructor');
    const name = found && typeof found.value === 'function' && !isProxy(found.value) ? own(found.value, 'name') : undefined;
    return name && typeof name.value === 'string' && name.value ? cut(name.value) : 'Object';
  };
  const typeOf = (value) => {
    if (value === null) return 'null';
    if (typeof value !== 'object') return typeof value;
    return isProxy(value) ? 'Proxy' : maker(value);
  };
  const short = (value, depth) => {
    if (typeof value === 'string') return cut(JSON.stringify(value.slice(0, LONGEST)));
    if (typeof value === 'bigint') return value > -(10n ** 100n) && value < 10n ** 100n ? `${value}n` : 'a long bigint';
    if (typeof value === 'symbol') return cut(String(value));
    if (typeof value === 'function') return isProxy(value) ? 'Proxy' : 'function';
    if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '-0' : `${value}`;
    if (isProxy(value)) return 'Proxy';
    const kind = maker(value);
    if (kind === 'Date') try { return Date.prototype.toISOString.call(value); } catch { return kind; }
    const isList = Array.isArray(value) || ArrayBuffer.isView(value);
    if (depth <= 0) return isList ? '[\u2026]' : `${kind} {\u2026}`;
    if (ArrayBuffer.isView(value) && first(sizes.slice(2, 3), value) === null) return kind;
    const length = isList ? (Array.isArray(value) ? own(value, 'length').value : first(sizes.slice(2, 3), value)) : 0;
    const names = isList ? Array.from({ length: Math.min(length, MOST_PARTS) }, (_, at) => String(at)) : Object.getOwnPropertyNames(value);
    const parts = names.slice(0, MOST_PARTS).map((name) => {
      const found = own(value, name);
      const text = !found ? '' : 'value' in found ? short(found.value, depth - 1) : '[getter]';
      return isList ? text : `${cut(name)}: ${text}`;
    });
    const more = (isList ? length : names.length) > MOST_PARTS ? ', \u2026' : '';
    const inner = parts.join(', ') + more;
    return cut(isList ? `[${inner}]` : `${kind === 'Object' ? '' : `${kind} `}{${inner}}`);
  };
  const extent = (value) => {
    if (typeof value === 'string') return String(value.length);
    if (typeof value !== 'object' || value === null || isProxy(value)) return '';
    if (Array.isArray(value)) return String(own(value, 'length').value);
    return String(first(sizes, value) ?? '');
  };
  const size = (value) => {
    if (typeof value === 'string') return 2 * value.length;
    return typeof value === 'object' && value !== null && !isProxy(value) ? first(bytes, value) : null;
  };
  const rows = [];
  let total = 0;
  for (const name of Object.getOwnPropertyNames(world).sort()) {
    if (isNodes(name)) continue;
    let value;
    try { value = read(name); } catch { continue; }
    if (typeof value === 'function') continue;
    total += 1;
    if (rows.length >= MOST_ROWS) continue;
    try { rows.push([cut(name), typeOf(value), extent(value), size(value), short(value, 2)]); } catch { rows.push([cut(name), typeof value, '', null, '']); }
  }
  return { rows, total };
})
