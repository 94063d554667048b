// The sandbox's side of an exchange, for JavaScript: does one job in the process that has the
// user's variables.
//
// In: BASE.job, a file of JSON that says what to do, and BASE.p-OFFSET, the pieces of what was
// sent. Out: BASE.report, a file of JSON, and BASE.pack, what is to be fetched. Nothing is printed
// and nothing thrown: what went wrong stands in the report. Values are JSON in which whatever JSON
// does not know is an object {"$": tag, ...}, and blobs beside it (see values.py).
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { types } = require('node:util');
const vm = require('node:vm');

const MOST_INLINE = 32 * 1024;
const MOST_REPORTED = 24000;
const MOST_DEPTH = 100;
const NAME = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;
const TYPED = { Int8Array: '|i1', Int16Array: '<i2', Int32Array: '<i4', BigInt64Array: '<i8', Uint16Array: '<u2', Uint32Array: '<u4', BigUint64Array: '<u8', Float32Array: '<f4', Float64Array: '<f8' };

class Refused extends Error {
  constructor(kind, text, where = '') {
    super(text);
    Object.assign(this, { kind, text, where });
  }
  below(step) { return new Refused(this.kind, this.text, step + this.where); }
}

// The steps to a part of a value, for whoever reads why it was refused.
function within(step, work) {
  try {
    return work();
  } catch (error) {
    throw error instanceof Refused ? error.below(step) : error;
  }
}

// Values out of JSON

function decode(node, blobs) {
  if (node === null || typeof node !== 'object') return node;
  if (Array.isArray(node)) return node.map((item) => decode(item, blobs));
  if (!Object.hasOwn(node, '$')) {
    const made = {};
    // `__proto__` is a name like any other.
    for (const [name, item] of Object.entries(node)) Object.defineProperty(made, name, { value: decode(item, blobs), writable: true, enumerable: true, configurable: true });
    return made;
  }
  const data = () => ('blob' in node ? blobs[node.blob] : Buffer.from(node.v, 'base64'));
  // An array of its own: those of Buffer share their memory.
  const bytes = () => new Uint8Array(data());
  switch (node.$) {
    case 'null': return null;
    case 'int': return node.v.startsWith('-') ? -BigInt(node.v.slice(1)) : BigInt(node.v);
    case 'float': return { nan: NaN, inf: Infinity, '-inf': -Infinity, '-0.0': -0 }[node.v];
    case 'str': return data().toString('utf8');
    case 'bytes': return bytes();
    case 'typed': return new globalThis[node.type](bytes().buffer);
    case 'jsdate': return new Date(node.v);
    case 'set': return new Set(node.v.map((item) => decode(item, blobs)));
    case 'dict': return new Map(node.v.map(([key, item]) => [decode(key, blobs), decode(item, blobs)]));
    default: throw new Refused('unsupported', `is a ${node.$}, which JavaScript has not`);
  }
}

// Values into JSON

class Encoder {
  constructor(numpy) {
    this.numpy = numpy;
    this.blobs = [];
    this.notes = new Set();
  }

  encode(value, depth = 0) {
    switch (typeof value) {
      case 'boolean': return value;
      case 'string': return value.length > MOST_INLINE && !/\p{Surrogate}/u.test(value) ? this.bytes('str', Buffer.from(value, 'utf8')) : value;
      case 'number': return this.number(value);
      case 'bigint': return this.integer(value);
      case 'undefined':
        this.notes.add('undefined arrives as None');
        return null;
      case 'object': return value === null ? null : this.object(value, depth);
      default: throw new Refused('unsupported', `is a ${typeof value}, which can't be transferred`);
    }
  }

  number(value) {
    if (Number.isNaN(value)) return { $: 'float', v: 'nan' };
    if (!Number.isFinite(value)) return { $: 'float', v: value > 0 ? 'inf' : '-inf' };
    if (Object.is(value, -0)) return { $: 'float', v: '-0.0' };
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
      this.notes.add('whole numbers beyond 2**53 arrive as float: JavaScript has rounded them');
      // So that it is read as a number with a point.
      return new Float(value);
    }
    return value;
  }

  integer(value) {
    if (value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER) return Number(value);
    return { $: 'int', v: value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}` };
  }

  bytes(tag, data) {
    if (data.length <= MOST_INLINE) return { $: tag, v: data.toString('base64') };
    this.blobs.push(data);
    return { $: tag, blob: this.blobs.length - 1 };
  }

  object(value, depth) {
    if (depth > MOST_DEPTH) throw new Refused('unsupported', `is nested deeper than ${MOST_DEPTH} levels; it may hold itself`);
    const items = (list) => list.map((item, number) => within(`[${number}]`, () => this.encode(item, depth + 1)));
    if (Array.isArray(value)) return items(Array.from(value));
    if (types.isDate(value)) return this.date(value);
    if (types.isAnyArrayBuffer(value)) return this.bytes('bytes', Buffer.from(value));
    if (types.isUint8Array(value) || types.isUint8ClampedArray(value) || value instanceof DataView) return this.bytes('bytes', Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    if (types.isTypedArray(value)) return this.typed(value, items);
    if (types.isMap(value)) return { $: 'dict', v: [...value].map(([key, item]) => within(`[${String(key)}]`, () => [this.encode(key, depth + 1), this.encode(item, depth + 1)])) };
    if (types.isSet(value)) {
      if ([...value].every((item) => item === null || typeof item !== 'object')) return { $: 'set', v: items([...value]) };
      this.notes.add('a Set of objects arrives as a list');
      return items([...value]);
    }
    if (types.isPromise(value)) throw new Refused('unsupported', 'is a Promise: await it first');
    if (types.isBoxedPrimitive(value)) return this.encode(value.valueOf(), depth);
    if (types.isProxy(value) || types.isRegExp(value) || types.isNativeError(value) || types.isWeakMap(value) || types.isWeakSet(value)) throw new Refused('unsupported', `is a ${value.constructor ? value.constructor.name : 'Proxy'}, which can't be transferred`);
    const made = Object.getPrototypeOf(value);
    if (made !== null && made !== Object.prototype) this.notes.add(`a ${(made.constructor && made.constructor.name) || 'object of a class'} arrives as a dict of its own properties`);
    const pairs = Object.entries(value).map(([name, item]) => [name, within(`[${JSON.stringify(name)}]`, () => this.encode(item, depth + 1))]);
    // A property `__proto__` would be lost on an object.
    return Object.hasOwn(value, '$') || Object.hasOwn(value, '__proto__') ? { $: 'dict', v: pairs } : Object.fromEntries(pairs);
  }

  date(value) {
    const year = value.getUTCFullYear();
    if (!(year >= 1 && year <= 9999)) throw new Refused('unsupported', 'is a Date that Python has not');
    return { $: 'datetime', v: value.toISOString().slice(0, -1), z: ['utc'], f: 0 };
  }

  typed(value, items) {
    const kind = TYPED[value[Symbol.toStringTag]];
    if (!kind || !this.numpy || os.endianness() !== 'LE') {
      this.notes.add('a typed array arrives as a list');
      return items(Array.from(value));
    }
    // The format of .npy, version 1.0: NumPy's `lib.format`.
    const text = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${value.length},), }`;
    const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + '\n';
    const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
    return this.bytes('npy', Buffer.concat([start, Buffer.from(header, 'latin1'), Buffer.from(value.buffer, value.byteOffset, value.byteLength)]));
  }
}

class Float {
  constructor(value) { this.value = value; }
}

// As JSON.stringify, in ASCII, and with a point in numbers that are to be read as such.
function asText(node) {
  if (node instanceof Float) return /[.e]/.test(String(node.value)) ? String(node.value) : `${node.value}.0`;
  if (Array.isArray(node)) return `[${node.map(asText).join(',')}]`;
  if (node !== null && typeof node === 'object') return `{${Object.entries(node).map(([name, item]) => `${asText(name)}:${asText(item)}`).join(',')}}`;
  return JSON.stringify(node).replace(/[\u0080-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// Jobs

function pieces(base) {
  const folder = path.dirname(base);
  const start = `${path.basename(base)}.p-`;
  return fs.readdirSync(folder).filter((name) => name.startsWith(start)).sort().map((name) => path.join(folder, name));
}

function joined(base) {
  return Buffer.concat(pieces(base).map((file) => Buffer.from(fs.readFileSync(file, 'latin1'), 'base64')));
}

function load(base, job) {
  let { text } = job;
  const blobs = [];
  if (text === null) {
    const parts = job.sizes.map((size) => Buffer.allocUnsafeSlow(size));
    const digest = crypto.createHash('sha256');
    let number = 0;
    let at = 0;
    for (const file of pieces(base)) {
      let piece = Buffer.from(fs.readFileSync(file, 'latin1'), 'base64');
      digest.update(piece);
      while (piece.length) {
        while (number < parts.length && at === parts[number].length) { number += 1; at = 0; }
        if (number === parts.length) throw new Refused('malformed', 'more bytes arrived than were told');
        const size = piece.copy(parts[number], at);
        at += size;
        piece = piece.subarray(size);
      }
    }
    if (digest.digest('hex') !== job.sha256) throw new Refused('malformed', 'what arrived is not what was sent');
    text = parts[0].toString('latin1');
    blobs.push(...parts.slice(1));
  }
  const nodes = JSON.parse(text);
  const values = Object.entries(nodes).map(([name, node]) => [name, within(name, () => decode(node, blobs))]);
  for (const [name, value] of values) Object.defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: true });
  return { notes: [] };
}

function valueOf(name) {
  if (!NAME.test(name)) throw new Refused('missing', `${name} is no name`);
  if (name in globalThis) return globalThis[name];
  try {
    // What a script declared that was run as it is: it is in no object. A name is all this can be.
    return new vm.Script(name).runInThisContext();
  } catch {
    throw new Refused('missing', `there is no variable ${name}`);
  }
}

function store(base, job) {
  const encoder = new Encoder(job.numpy);
  const notes = [];
  const nodes = job.names.map((name) => {
    const node = within(name, () => encoder.encode(within('', () => valueOf(name))));
    notes.push(...[...encoder.notes].map((text) => [name, text]));
    encoder.notes.clear();
    return `${asText(name)}:${asText(node)}`;
  });
  const text = Buffer.from(`{${nodes.join(',')}}`, 'latin1');
  const sizes = [text.length, ...encoder.blobs.map((blob) => blob.length)];
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total > job.limit) throw new Refused('too large', `has ${total} bytes`, job.names.join(', '));
  if (!encoder.blobs.length && text.length <= MOST_REPORTED) return { notes, text: text.toString('latin1') };
  const digest = crypto.createHash('sha256');
  const pack = fs.openSync(`${base}.pack`, 'w', 0o600);
  for (const part of [text, ...encoder.blobs]) {
    digest.update(part);
    for (let at = 0; at < part.length;) at += fs.writeSync(pack, part, at);
  }
  fs.closeSync(pack);
  return { notes, text: null, sizes, sha256: digest.digest('hex') };
}

exports.serve = (base) => {
  let report;
  try {
    let job = JSON.parse(fs.readFileSync(`${base}.job`, 'latin1'));
    if (job.do === 'joined') job = JSON.parse(joined(`${base}.j`).toString('latin1'));
    report = { load, store }[job.do](base, job);
  } catch (error) {
    report = { refused: error instanceof Refused ? [error.kind, error.text, error.where] : ['failed', String(error), ''] };
  }
  for (const file of [...pieces(base), ...pieces(`${base}.j`)]) fs.unlinkSync(file);
  fs.writeFileSync(`${base}.new`, asText(report), 'latin1');
  fs.renameSync(`${base}.new`, `${base}.report`);
};
