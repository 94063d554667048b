// The JavaScript worker: runs scripts, or a notebook's cells, one after the other in one persistent
// context. With the argument `notebook` it has what a notebook needs: `display`, completion,
// inspection, and a report of whether anything continues after a cell.
//
// In: JSON lines on the first descriptor of AGENTBAY_WORKER_FDS:
//   {"id", "op": "run", "code", "source", "define", "await", "name", "offset", "shifts",
//    "expressions", "asks", "head", "tail", "timeout"}
//       run a script; `await`: wait for a promise that is its value; `offset`: columns of the first
//       line that are not the user's; `shifts`: the same as [line, column, length]; `define`: a
//       script to run before; `source`: the user's code; `expressions`: evaluated after it, by name;
//       `asks`: can the user be asked for input? `head`, `tail`: bytes at the start and at the end
//       of its output that are sent; `timeout`: milliseconds, without `notebook`
//   {"id", "op": "complete", "before", "after"}   the code around the cursor
//   {"id", "op": "inspect", "before", "after", "detail"}
//   {"id", "op": "variables", "source"}           `variables.js`
//   {"id", "op": "interrupt"}                     wait no longer for that cell's promise
//
// A notebook's cell is interrupted by SIGINT, at most once. For each cell the worker writes a byte
// to its third descriptor. The sender of SIGINT reads it from the fourth before it signals; the
// worker reads it when the code has ended, and waits for the signal if it is gone. While the cell
// waits for a promise, SIGINT is for its child processes; a line ends the wait. The user's input
// comes as JSON lines on the fifth descriptor, {"number", "text"}, or {"number"} for an interrupt:
// code that asks for it blocks until then. After a child process it blocks until its output has
// been read: {"number"}.
//
// Out: JSON lines on the second descriptor:
//   {"event": "ready", "version"}                        once
//   {"id", "event": "begin"}                             the cell's code begins
//   {"id", "event": "waits"}                             it has ended, a promise is waited for
//   {"id", "event": "stdout" | "stderr", "text"}         as they happen, also after `done`
//   {"id", "event": "display", "data", "metadata", "transient", "update"}
//   {"id", "event": "clear", "wait"}
//   {"id", "event": "input", "number", "prompt", "password"}   the code waits for the user's input
//   {"event": "ran", "number"}          a child process has ended: read its output
//   {"id", "event": "result", "data", "metadata"}        the value of the last expression
//   {"id", "event": "error", "name", "value", "stack", "interrupted"}   the script failed
//   {"id", "event": "cutting"}                           `head` bytes have been sent
//   {"id", "event": "cut", "stdout", "stderr", "displays", "displayed"}
//       before the last `tail` bytes: characters, number and bytes that are left out
//   {"id", "event": "done", "alive", "names", "expressions", "pages"}
//       always the last of a run; may it print more later? which globals are not Node's? what does
//       the pager show?
//   {"event": "quiet"}                                   nothing continues that could print
//   {"event": "signalled"}                               SIGINT has arrived and interrupted nothing
//   {"id", "event": "reply", "content"}                  to `complete`, `inspect` and `variables`
// An interrupt keeps the context. The end of the input ends the worker. Descriptors 1 and 2 are for
// the output of child processes.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');
const { spawnSync } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const { createRequire, builtinModules } = require('node:module');
const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const util = require('node:util');
const vm = require('node:vm');

// Kept here, because a cell's `const process = ...` replaces the global.
const world = globalThis;
const { Atomics, Buffer, Date, Error, Int32Array, JSON, Map, Math, Object, Promise, Set, SharedArrayBuffer, String, Symbol, TypeError, Uint8Array, clearTimeout, process, setImmediate, setTimeout } = world;
const nodeRequire = require;

const [inFd, outFd, giveFd, takeFd, answerFd] = process.env.AGENTBAY_WORKER_FDS.split(',').map(Number);
delete process.env.AGENTBAY_WORKER_FDS;
const notebook = process.argv.splice(2, 1)[0] === 'notebook';

// The run of an asynchronous continuation: late output has the id of its own script.
const owner = new AsyncLocalStorage();
let current = null;
let latest = null;
let interruptPending = null;

// Node 18 to 22 add visible symbols to objects that are made while the storage is in use.
function hideMarks() {
  const make = () => [Promise.resolve(), setTimeout(() => {}, 0), setImmediate(() => {})];
  const plain = make();
  const marked = owner.run({}, make);
  marked.forEach((one, number) => {
    const usual = Object.getOwnPropertySymbols(plain[number]);
    for (const mark of Object.getOwnPropertySymbols(one)) {
      if (usual.includes(mark)) continue;
      Object.defineProperty(Object.getPrototypeOf(one), mark, {
        set(value) { Object.defineProperty(this, mark, { value, writable: true, configurable: true }); },
      });
    }
  });
}
hideMarks();

function wellFormed(key, value) {
  // Half a character, as in '😀'[0], is not valid Unicode: the next encoder would fail.
  return typeof value === 'string' ? value.replace(/\p{Surrogate}/gu, '\ufffd') : value;
}

const OUTPUTS = ['stdout', 'stderr', 'display', 'result'];
const PIECE = 65536;

// Limits a run's output: the middle is left out and counted.
class Limits {
  constructor({ head, tail }) {
    this.room = head;
    this.tailRoom = tail;
    this.clear();
  }

  clear() {
    this.kept = [];
    this.first = 0;
    this.size = 0;
    this.cut = { stdout: 0, stderr: 0, displays: 0, displayed: 0 };
  }

  // Returns whether to send the frame now.
  pass(frame, data) {
    let size = data.length - 1 + 128;
    for (let at = data.indexOf(92); at >= 0; at = data.indexOf(92, at + 1)) size += 2;
    if (size > this.room && this.room >= 0) {
      write(encoded({ id: frame.id, event: 'cutting' }));
      this.room = -1;
    }
    if (this.room >= 0) {
      this.room -= size;
      return true;
    }
    this.kept.push({ event: frame.event, characters: (frame.text || '').length, size, data });
    this.size += size;
    while (this.size > this.tailRoom) {
      const gone = this.kept[this.first];
      this.kept[this.first++] = undefined;
      this.size -= gone.size;
      if (gone.event in this.cut) this.cut[gone.event] += gone.characters;
      else {
        this.cut.displays++;
        this.cut.displayed += gone.size;
      }
    }
    if (this.first > 1000) {
      this.kept.splice(0, this.first);
      this.first = 0;
    }
    return false;
  }

  end(id) {
    if (this.room >= 0) return;
    if (this.cut.stdout || this.cut.stderr || this.cut.displays) write(encoded({ id, event: 'cut', ...this.cut }));
    for (const { data } of this.kept.slice(this.first)) write(data);
    this.clear();
  }
}
let limits = null;

function encoded(frame) {
  return Buffer.from(JSON.stringify(frame, wellFormed) + '\n');
}

function send(frame) {
  const data = encoded(frame);
  if (limits && OUTPUTS.includes(frame.event)) {
    if (!limits.pass(frame, data)) return;
  } else if (limits && (frame.event === 'error' || frame.event === 'done')) limits.end(frame.id);
  write(data);
}

function sendText(id, event, text) {
  for (let start = 0; start < text.length;) {
    let end = Math.min(start + PIECE, text.length);
    // Not between the halves of a character.
    if (end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end--;
    send({ id, event, text: text.slice(start, end) });
    start = end;
  }
}

function write(data) {
  let offset = 0;
  while (offset < data.length) {
    try {
      offset += fs.writeSync(outFd, data, offset);
    } catch (error) {
      if (error.code === 'EPIPE') process.exit(0);
      // The pipe is full and non-blocking: wait, or the rest would be lost.
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function job() {
  return owner.getStore() || current || (notebook ? latest : null);
}

function runId() {
  const run = job();
  return run ? run.id : null;
}

function redirect(name) {
  const stream = process[name];
  stream.write = (chunk, encoding, callback) => {
    const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
    // Not between scripts: nobody reads then, and a timer that prints would block.
    if (text && notebook) send({ id: runId(), event: name, text });
    else if (text && current) sendText(runId(), name, text);
    const done = typeof encoding === 'function' ? encoding : callback;
    if (done) process.nextTick(done);
    return true;
  };
}
redirect('stdout');
redirect('stderr');

// A value that can't be shown must not fail its cell: a proxy's traps are not run, and errors of the
// value's own code are ignored.
function inspect(value) {
  const options = notebook ? { showProxy: true } : { depth: 4, showProxy: true };
  try {
    return util.inspect(value, options);
  } catch {
    try {
      return util.inspect(value, { ...options, customInspect: false });
    } catch (error) {
      return `[object that can't be shown${isObject(error) && typeof error.message === 'string' ? `: ${error.message}` : ''}]`;
    }
  }
}

// Errors

const BUILT_IN_ERRORS = new Set(['Error', 'AggregateError', 'EvalError', 'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError', 'URIError', 'DOMException']);
const INTERRUPTED = 'ERR_SCRIPT_EXECUTION_INTERRUPTED';
const INTERRUPTS = [INTERRUPTED, 'ERR_SCRIPT_EXECUTION_TIMEOUT'];

function nameOf(error) {
  const name = String(error.name);
  const made = typeof error.constructor === 'function' ? String(error.constructor.name) : '';
  // A subclass inherits the name that its base was given.
  return made && BUILT_IN_ERRORS.has(name) && !BUILT_IN_ERRORS.has(made) && !Object.hasOwn(error, 'name') ? made : name;
}

// Columns of cells' scripts that are not the user's, by cell name.
const shifts = new Map();

// Converts a column of V8 (from 1) to the user's; `isAdded`: is it in code that was inserted?
function movedBack(name, line, column) {
  let moved = column;
  let isAdded = false;
  for (const [at, start, length] of shifts.get(name) || []) {
    if (at !== line - 1 || column <= start) continue;
    // Within inserted code, it is the column after that.
    moved -= length > 0 ? Math.min(length, column - 1 - start) : length;
    isAdded ||= column <= start + length;
  }
  return { moved, isAdded };
}

function placed(frame) {
  const name = frame.getFileName();
  const line = frame.getLineNumber();
  const column = frame.getColumnNumber();
  return String(frame).replace(`${name}:${line}:${column}`, `${name}:${line}:${movedBack(name, line, column).moved}`);
}

// A cell with `await` is made a function: its call is the last frame, and is removed.
function withoutCall(frames) {
  const frame = frames.at(-1);
  const name = frame && frame.getFileName();
  const isCall = name && frames.slice(0, -1).some((other) => other.getFileName() === name) && movedBack(name, frame.getLineNumber(), frame.getColumnNumber()).isAdded;
  return isCall ? frames.slice(0, -1) : frames;
}

// A stack ends with the script: the frames below are Node's and this worker's.
Error.prepareStackTrace = (error, frames) => {
  const below = frames.findIndex((frame) => frame.getFileName() === 'node:vm');
  // Code that was added before a cell's first line has negative columns, which V8 returns as null.
  const isAdded = (frame) => frame.getFileName() && frame.getLineNumber() !== null && !(frame.getColumnNumber() > 0);
  const own = (below < 0 ? frames : frames.slice(0, below)).filter((frame) => frame.getFileName() !== __filename && !isAdded(frame));
  const isNodes = typeof error.code === 'string' && error.code.startsWith('ERR_');
  const head = isNodes ? `${error.name} [${error.code}]: ${error.message}` : Error.prototype.toString.call(error);
  return [head, ...withoutCall(own).map((frame) => `    at ${placed(frame)}`)].join('\n');
};

// Node shows an error without frames in brackets, as it does inside a value.
function shown(error) {
  const text = inspect(error);
  return text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
}

// `thrown` is the prefix of a thrown value that is not an error.
function describe(error, thrown = 'Uncaught ') {
  try {
    if ((!util.types.isProxy(error) && error instanceof Error) || util.types.isNativeError(error)) {
      return { name: nameOf(error), value: String(error.message), stack: notebook ? shown(error) : String(error.stack || error) };
    }
    return { name: 'Error', value: inspect(error), stack: `${thrown}${inspect(error)}` };
  } catch {
    return { name: 'Error', value: 'an error that can not be shown', stack: `${thrown}error that can not be shown` };
  }
}

// An interrupt reaches child processes too; if the script waits for one that ends first, it fails
// before its own interrupt is noticed. The only interrupt of a plain script is its timeout.
function isInterrupt(error, mayBeChild) {
  try {
    return INTERRUPTS.includes(error.code) || (mayBeChild && error.signal === 'SIGINT');
  } catch {
    return false;
  }
}

// `_` and `_error`, as in Node's REPL, until a cell defines them.
const last = { _: undefined, _error: undefined };
for (const name of notebook ? Object.keys(last) : []) {
  Object.defineProperty(world, name, {
    get: () => last[name],
    set(value) { Object.defineProperty(world, name, { value, writable: true, enumerable: true, configurable: true }); },
    configurable: true,
  });
}

function fail(id, error, mayBeChild) {
  if (!isInterrupt(error, mayBeChild)) {
    last._error = error;
    send({ id, event: 'error', ...describe(error) });
    return;
  }
  const what = notebook ? 'the cell' : 'the script';
  const value = error.waited ? `${what} was interrupted while it waited; what it started may continue` : `${what} was interrupted`;
  send({ id, event: 'error', name: 'KeyboardInterrupt', value, stack: `KeyboardInterrupt: ${value}`, interrupted: true });
}

// Values

const SHOW = Symbol.for('Jupyter.display');

class DisplayHandle {
  constructor(id) { this.display_id = id; }
  update(value, options) { display(value, { ...options, display_id: this.display_id, update: true }); }
}

function isObject(value) {
  return ((typeof value === 'object' && value !== null) || typeof value === 'function') && !util.types.isProxy(value);
}

function isThenable(value) {
  return util.types.isPromise(value) || (isObject(value) && typeof value.then === 'function');
}

// Prepares a MIME bundle for JSON: bytes as base64, JSON unchanged, all else as text.
function packed(given) {
  if (typeof given !== 'object' || given === null) throw new TypeError('a MIME bundle is an object of types and contents');
  const data = {};
  for (const [mime, content] of Object.entries(given)) {
    if (content === undefined || content === null) continue;
    if (content instanceof Uint8Array) data[mime] = Buffer.from(content).toString(/^text\/|[+/]xml$/.test(mime) ? 'utf8' : 'base64');
    else if (/[+/]json$/.test(mime)) data[mime] = JSON.parse(JSON.stringify(content));
    else data[mime] = String(content);
  }
  return data;
}

function bundle(value) {
  let way;
  try {
    if (notebook && isObject(value)) way = value[SHOW];
  } catch {
    // A getter that fails must not fail the cell.
  }
  if (typeof way !== 'function') return { 'text/plain': inspect(value) };
  const complete = (given) => {
    const data = packed(given);
    return 'text/plain' in data ? data : { ...data, 'text/plain': inspect(value) };
  };
  const given = way.call(value);
  return isThenable(given) ? Promise.resolve(given).then(complete) : complete(given);
}

const MIME_TYPES = { html: 'text/html', markdown: 'text/markdown', latex: 'text/latex', svg: 'image/svg+xml', png: 'image/png', jpeg: 'image/jpeg', json: 'application/json', javascript: 'application/javascript' };

// `{html: ...}`, `{'text/html': ...}`: a MIME bundle, if every name is a MIME type.
function named(value) {
  if (!isObject(value) || Object.getPrototypeOf(value) !== Object.prototype) return undefined;
  const fields = Object.getOwnPropertyDescriptors(value);
  const names = Object.keys(fields);
  if (!names.length || !names.every((name) => 'value' in fields[name] && (Object.hasOwn(MIME_TYPES, name) || /^[a-z]+\/[\w.+-]+$/.test(name)))) return undefined;
  return Object.fromEntries(names.map((name) => [MIME_TYPES[name] || name, fields[name].value]));
}

function display(value, options = {}) {
  const { raw = false, update = false, metadata = {}, display_id } = options;
  if (update && !display_id) throw new TypeError('display: `update` needs the `display_id` of what is shown');
  const id = display_id === true ? randomUUID() : display_id;
  const run = job();
  const publish = (data) => send({ id: run && run.id, event: 'display', data, metadata, transient: id ? { display_id: String(id) } : {}, update });
  const given = raw ? value : named(value);
  const data = given ? packed(given) : bundle(value);
  // The cell ends only when all its displays are sent.
  if (isThenable(data)) run.displays.push(data.then(publish));
  else publish(data);
  return id === undefined || update ? undefined : new DisplayHandle(String(id));
}
for (const [name, mime] of Object.entries(MIME_TYPES)) {
  display[name] = (content, options) => display({ [mime]: content }, { ...options, raw: true });
}
display.clear = ({ wait = false } = {}) => send({ id: runId(), event: 'clear', wait: Boolean(wait) });

// The user's input

let questions = 0;

function ask(asker, prompt, password = false) {
  const run = job();
  if (!run?.asks) throw new Error(`${asker}() can't ask here: the front end takes no input`);
  if (run !== current) throw new Error(`${asker}() can't ask any more: its cell has ended`);
  const { text } = answered({ id: run.id, event: 'input', prompt, password });
  if (text === undefined) throw Object.assign(new Error(), { code: INTERRUPTED });
  return text;
}

// Sends a frame and blocks until its answer comes.
function answered(frame) {
  const number = ++questions;
  send({ ...frame, number });
  const buffer = Buffer.alloc(PIECE);
  for (let pieces = [];;) {
    const size = fs.readSync(answerFd, buffer);
    if (!size) process.exit(0);
    pieces.push(Buffer.from(buffer.subarray(0, size)));
    if (buffer[size - 1] !== 10) continue;
    const answers = Buffer.concat(pieces).toString().trimEnd().split('\n').map((line) => JSON.parse(line));
    // Ignore answers to earlier questions.
    const answer = answers.find((one) => one.number === number);
    if (answer) return answer;
    pieces = [];
  }
}

// As in Deno's kernel.
const DIALOGS = {
  prompt(message = 'Prompt', byDefault = null, { password = false } = {}) {
    const hint = byDefault === null || byDefault === '' ? '' : ` [${byDefault}]`;
    return ask('prompt', `${message}${hint} `, Boolean(password)) || (byDefault === null ? '' : String(byDefault));
  },
  confirm(message = 'Confirm') { return /^y(es)?$/i.test(ask('confirm', `${message} [y/N] `).trim()); },
  alert(message = 'Alert') { ask('alert', `${message} [Enter] `); },
};

// Lines of a cell that are not JavaScript, `!command` and `name?`, come as calls of these functions.

// The command writes to the worker's own descriptors.
function shell(command) {
  const { error, signal } = spawnSync(command, { shell: true, stdio: ['ignore', 1, 2] });
  answered({ event: 'ran' });
  if (error) throw error;
  if (signal === 'SIGINT') throw Object.assign(new Error(), { code: INTERRUPTED });
}

function help(name, detail) {
  const { found, text } = look({ before: name, after: '', detail });
  const run = job();
  if (found && run) run.pages.push(text);
  else send({ id: runId(), event: 'stdout', text: `Object \`${name}\` not found.\n` });
}

// Runs

// SIGINT interrupts code that runs on this stage. A script must end on it, too: otherwise Node would
// keep an interrupt that comes at its end for the next script.
const stage = { body: null };
vm.createContext(stage);
const onStage = new vm.Script('body()');
const never = new Int32Array(new SharedArrayBuffer(4));
const SIGNAL_MS = 5000;

function taken() {
  try {
    return fs.readSync(takeFd, Buffer.alloc(1)) === 1;
  } catch {
    return false;
  }
}

function evaluate(script, timeout, begin = () => {}) {
  if (!notebook) return script.runInThisContext({ displayErrors: false, ...(timeout > 0 && { timeout: Math.ceil(timeout) }) });
  let ended;
  stage.body = () => {
    fs.writeSync(giveFd, '!');
    begin();
    try {
      const value = script.runInThisContext({ displayErrors: false });
      ended = () => value;
    } catch (error) {
      ended = () => { throw error; };
    }
    // The byte is gone: wait for the signal.
    if (!taken()) Atomics.wait(never, 0, 0, SIGNAL_MS);
  };
  onStage.runInContext(stage, { breakOnSigint: true, displayErrors: false });
  return ended();
}

async function settle(promise, timeout) {
  let timer;
  const interrupted = new Promise((_, reject) => {
    interruptPending = () => reject(Object.assign(new Error(), { code: INTERRUPTED, waited: true }));
    if (timeout !== undefined) timer = setTimeout(interruptPending, Math.max(0, timeout));
  });
  try {
    return await Promise.race([promise, interrupted]);
  } finally {
    clearTimeout(timer);
    interruptPending = null;
  }
}

// Resolves an `import()` of the script from the working directory.
const LOADER = (vm.constants && vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER) || ((specifier, _, attributes) => {
  const found = /^(node|data|file|https?):/.test(specifier) ? specifier : world.require.resolve(specifier);
  return import(path.isAbsolute(found) ? pathToFileURL(found).href : found, { with: attributes });
});

function compiled({ code, source, offset = 0 }, filename) {
  try {
    return new vm.Script(code, { filename, columnOffset: -offset, importModuleDynamically: LOADER });
  } catch (error) {
    if (source && source !== code) error.stack = withSource(String(error.stack), source, filename, offset);
    throw error;
  }
}

// Shows the user's own line, with the mark, above the message of a syntax error.
function withSource(stack, source, filename, offset) {
  const [head, , mark, ...rest] = stack.split('\n');
  const line = head.startsWith(`${filename}:`) ? Number(head.slice(filename.length + 1)) : NaN;
  const own = source.split(/\r\n|[\n\r\u2028\u2029]/)[line - 1];
  if (own === undefined || !/^\s*\^*$/.test(mark)) return stack;
  const { moved } = movedBack(filename, line, mark.indexOf('^') + 1 - (line === 1 ? offset : 0));
  return [head, own, ' '.repeat(Math.max(0, moved - 1)) + mark.trim(), ...rest].join('\n');
}

function run(request) {
  const id = request.id;
  const run = { id, displays: [], pages: [], asks: request.asks };
  current = latest = run;
  limits = request.head === undefined ? null : new Limits(request);
  const until = Date.now() + request.timeout;
  const left = () => until - Date.now();
  let expressions;
  const finish = () => {
    current = null;
    if (notebook) {
      const alive = isAlive();
      send({ id, event: 'done', alive, names: ownNames(), expressions, pages: run.pages });
      if (alive) watch();
    } else send({ id, event: 'done' });
    next();
  };
  const show = (value) => {
    last._ = value;
    if (value === undefined || (isObject(value) && value instanceof DisplayHandle)) return undefined;
    const publish = (data) => send({ id, event: 'result', data, metadata: {} });
    const data = bundle(value);
    return isThenable(data) ? data.then(publish) : publish(data);
  };
  const end = () => {
    // Jobs that are ready now still belong to the script; timers and input do not.
    if (!notebook) Promise.resolve().then(() => process.nextTick(finish));
    else {
      expressions = evaluated(request.expressions || {});
      // Later, so that jobs that are ready now don't count as continuing.
      setImmediate(finish);
    }
  };
  owner.run(run, () => {
    let pending;
    try {
      const filename = request.name || `script-${id}.js`;
      shifts.set(filename, request.shifts);
      const script = compiled(request, filename);
      if (request.define) new vm.Script(request.define).runInThisContext();
      const value = evaluate(script, request.timeout, () => send({ id, event: 'begin' }));
      const waits = request.await && util.types.isPromise(value);
      if (waits || run.displays.length) {
        pending = (async () => {
          const settled = [waits ? await value : value];
          await Promise.all(run.displays);
          await show(settled[0]);
        })();
      } else pending = show(value);
    } catch (error) {
      fail(id, error, notebook || left() <= 0);
      pending = Promise.all(run.displays);
    }
    if (pending && notebook) send({ id, event: 'waits' });
    if (pending) settle(pending, notebook ? undefined : left()).catch((error) => fail(id, error, notebook || left() <= 0)).then(end);
    else end();
  });
}

function evaluated(expressions) {
  return Object.fromEntries(Object.entries(expressions).map(([name, code]) => {
    try {
      // Not on the stage: an interrupt is only for the cell's code.
      const value = new vm.Script(code).runInThisContext({ displayErrors: false });
      return [name, { status: 'ok', data: { 'text/plain': inspect(value) }, metadata: {} }];
    } catch (error) {
      const { name: ename, value: evalue, stack } = describe(error);
      return [name, { status: 'error', ename, evalue, traceback: stack.split('\n') }];
    }
  }));
}

// Without Node's warning about the only way to use its default loader.
const { emitWarning } = process;
process.emitWarning = (warning, ...more) => {
  if (!String(warning).startsWith('vm.USE_MAIN_CONTEXT_DEFAULT_LOADER')) emitWarning(warning, ...more);
};

const waiting = [];
function next() {
  if (current === null && waiting.length) run(waiting.shift());
}

// What continues after a cell: all that keeps the event loop busy and did not at the start.

let usual = null;
let watching = null;

function resources() {
  const counts = {};
  for (const kind of process.getActiveResourcesInfo ? process.getActiveResourcesInfo() : []) counts[kind] = (counts[kind] || 0) + 1;
  return counts;
}

function isAlive() {
  return Object.entries(resources()).some(([kind, count]) => count > (usual[kind] || 0));
}

function watch(pause = 20) {
  clearTimeout(watching);
  watching = owner.exit(() => setTimeout(() => {
    if (current !== null) return; // the end of that cell checks again
    if (isAlive()) watch(pause < 300 ? pause * 2 : pause);
    else send({ event: 'quiet' });
  }, pause));
  watching.unref();
}

// Completion and inspection: no code of the user is run, and so no getter.

const WORD = /[\p{ID_Continue}$]*$/u;
const NAME = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;
const CHAIN = /(?<![\p{ID_Continue}$.)\]])([\p{ID_Start}$_][\p{ID_Continue}$]*(?:\s*\??\.\s*[\p{ID_Start}$_][\p{ID_Continue}$]*|\[(?:\d+|'[^']*'|"[^"]*")\])*)$/u;
const LINK = /[\p{ID_Continue}$]+|'[^']*'|"[^"]*"/gu;
const REGEX = /(?:^|[=(,:[!&|?{};+\n]|\breturn)\s*\/(?![*/])(?:[^\\/[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*$/;
const MODULE = /(?:\brequire\s*\(|\bimport\s*\(?|\bfrom)\s*(['"])([\w:/.-]*)$/;
const KEYWORDS = 'async await break case catch class const continue debugger default delete do else export extends false finally for function if import in instanceof let new null of return static super switch this throw true try typeof undefined var void while with yield'.split(' ');
const LITERALS = { null: null, undefined, true: true, false: false };
// How the getter of a cell's constant starts: it returns the value or throws.
const CONSTANT = '()=>s?x:early(';
let nodesNames;

function ownNames() {
  return Object.getOwnPropertyNames(world).filter((name) => !nodesNames.has(name));
}

function mayGet(getter, holder, name) {
  const source = Function.prototype.toString.call(getter);
  if (source.startsWith(CONSTANT) || source.endsWith('{ [native code] }')) return true;
  if (holder === world) return nodesNames.has(name) && !name.endsWith('Storage');
  return holder === process || (process.moduleLoadList || []).some((one) => {
    const module = one.replace('NativeModule ', '');
    return builtinModules.includes(module) && !module.startsWith('_') && nodeRequire(module) === holder;
  });
}

function property(value, name) {
  for (let holder = Object(value); holder !== null; holder = Object.getPrototypeOf(holder)) {
    if (util.types.isProxy(holder)) break;
    const found = Object.getOwnPropertyDescriptor(holder, name);
    if (!found) continue;
    if ('value' in found) return found.value;
    if (found.get && mayGet(found.get, holder, name)) return found.get.call(value);
    break;
  }
  throw new TypeError('not to be known');
}

function resolve(chain) {
  const [first, ...links] = chain.match(LINK).map((link) => link.replace(/^['"]|['"]$/g, ''));
  let value;
  if (first === 'this' || first === 'globalThis') value = world;
  else if (first in world) value = property(world, first);
  // A plain script's `let`, `const` or `class`: it is not a property of any object.
  else value = new vm.Script(first).runInThisContext();
  for (const link of links) value = property(value, link);
  return value;
}

function kindOf(value) {
  if (typeof value !== 'function') return 'instance';
  return /^class\b/.test(Function.prototype.toString.call(value)) ? 'class' : 'function';
}

function members(value) {
  const found = Object.create(null);
  for (let holder = Object(value); holder !== null && !util.types.isProxy(holder); holder = Object.getPrototypeOf(holder)) {
    for (const name of Object.getOwnPropertyNames(holder)) {
      if (name in found || !NAME.test(name)) continue;
      // Node makes some of its globals when they are first read.
      if (holder === world && nodesNames.has(name)) { found[name] = 'global'; continue; }
      const { value: member, get } = Object.getOwnPropertyDescriptor(holder, name);
      found[name] = get ? 'property' : kindOf(member);
    }
    if (value === world) break;
  }
  return found;
}

function candidates(before) {
  if (/\.\s*$/.test(before) && !before.endsWith('...')) {
    const object = before.replace(/\??\.\s*$/, '').trimEnd();
    if (/['"`]$/.test(object)) return members('');
    if (/\]$/.test(object) && !CHAIN.test(object)) return members([]);
    if (REGEX.test(object)) return members(/x/);
    const chain = CHAIN.exec(object);
    return chain ? members(resolve(chain[1])) : {};
  }
  const own = new Set(ownNames());
  const names = members(world);
  const sorted = Object.entries(names).sort(([a], [b]) => own.has(b) - own.has(a));
  return { ...Object.fromEntries(sorted), ...Object.fromEntries(KEYWORDS.map((word) => [word, 'keyword'])) };
}

// A key in brackets, up to the cursor: the object, and the start of the key.
const KEY = /^([^]*[\p{ID_Continue}$\])]\s*)\[\s*(['"])((?:(?!\2)[^\\\n])*)$/u;

function keys(value) {
  const found = Object.create(null);
  for (let holder = Object(value); holder !== null && holder !== Object.prototype && !util.types.isProxy(holder); holder = Object.getPrototypeOf(holder)) {
    for (const name of Object.getOwnPropertyNames(holder)) if (!(name in found) && !/['"\\\n]/.test(name)) found[name] = 'property';
  }
  return found;
}

function files(word) {
  const folder = word.slice(0, word.lastIndexOf('/') + 1);
  return Object.fromEntries(fs.readdirSync(folder || '.', { withFileTypes: true }).map((one) => [folder + one.name + (one.isDirectory() ? '/' : ''), 'module']));
}

function packages() {
  try {
    return fs.readdirSync('node_modules').filter((name) => !name.startsWith('.')).map((name) => [name, 'module']);
  } catch {
    return [];
  }
}

// Returns whether the cursor is in a comment or a string.
function isText(before) {
  const open = [];
  for (let at = 0; at < before.length; at++) {
    const char = before[at];
    const inside = open.at(-1);
    if (inside === '//') {
      if (char === '\n') open.pop();
    } else if (inside === '/*') {
      if (before.startsWith('*/', at)) { open.pop(); at++; }
    } else if (inside === "'" || inside === '"' || inside === '`') {
      if (char === '\\') at++;
      else if (char === inside || (char === '\n' && inside !== '`')) open.pop();
      else if (inside === '`' && before.startsWith('${', at)) { open.push('{'); at++; }
    } else if (before.startsWith('//', at) || before.startsWith('/*', at)) {
      open.push(before.slice(at, at + 2));
      at++;
    } else if (char === "'" || char === '"' || char === '`' || char === '{') open.push(char);
    else if (char === '}') open.pop();
  }
  return open.length > 0 && open.at(-1) !== '{';
}

function complete({ before }) {
  const module = MODULE.exec(before);
  const key = module ? null : KEY.exec(before);
  let word = module ? module[2] : key ? key[3] : WORD.exec(before)[0];
  let found = {};
  try {
    if (module && word.startsWith('.')) found = files(word);
    else if (key) found = keys(resolve(CHAIN.exec(key[1].trimEnd())[1]));
    else if (!module && isText(before)) found = {};
    else if (module) found = Object.fromEntries(builtinModules.filter((name) => !name.startsWith('_')).flatMap((name) => [[name, 'module'], [`node:${name}`, 'module']]).concat(packages()));
    else found = candidates(before.slice(0, before.length - word.length));
  } catch {
    // An unknown name, or a value that may not be read: no matches.
  }
  const names = Object.keys(found).filter((name) => name.startsWith(word) && (word.startsWith('_') || !name.startsWith('__')));
  return { word, matches: names, types: names.map((name) => found[name]) };
}

// Parameters of JavaScript's built-in functions, which their sources don't contain: an object, then
// functions, which are called with or without `new`.
const SIGNATURES = `
globalThis: decodeURI(encodedURI) decodeURIComponent(encodedComponent) encodeURI(uri) encodeURIComponent(component) escape(string) eval(script) isFinite(number) isNaN(number) parseFloat(string) parseInt(string, radix?) unescape(string)
globalThis: Array(...elements) BigInt(value) Boolean(value?) Date(value?) Error(message?, options?) EvalError(message?, options?) Function(...parameters, body) Number(value?) Object(value?) RangeError(message?, options?) ReferenceError(message?, options?) RegExp(pattern, flags?) String(value?) Symbol(description?) SyntaxError(message?, options?) TypeError(message?, options?) URIError(message?, options?)
new globalThis: AggregateError(errors, message?, options?) ArrayBuffer(length, options?) DataView(buffer, byteOffset?, byteLength?) FinalizationRegistry(cleanup) Map(iterable?) Promise(executor) Proxy(target, handler) Set(iterable?) SharedArrayBuffer(length, options?) WeakMap(iterable?) WeakRef(target) WeakSet(iterable?) Int8Array(source?, byteOffset?, length?) Uint8Array(source?, byteOffset?, length?) Uint8ClampedArray(source?, byteOffset?, length?) Int16Array(source?, byteOffset?, length?) Uint16Array(source?, byteOffset?, length?) Int32Array(source?, byteOffset?, length?) Uint32Array(source?, byteOffset?, length?) Float32Array(source?, byteOffset?, length?) Float64Array(source?, byteOffset?, length?) BigInt64Array(source?, byteOffset?, length?) BigUint64Array(source?, byteOffset?, length?)
Array: from(items, mapFn?, thisArg?) fromAsync(items, mapFn?, thisArg?) isArray(value) of(...elements)
Array.prototype: at(index) concat(...values) copyWithin(target, start, end?) every(callbackFn, thisArg?) fill(value, start?, end?) filter(callbackFn, thisArg?) find(callbackFn, thisArg?) findIndex(callbackFn, thisArg?) findLast(callbackFn, thisArg?) findLastIndex(callbackFn, thisArg?) flat(depth?) flatMap(callbackFn, thisArg?) forEach(callbackFn, thisArg?) includes(value, fromIndex?) indexOf(value, fromIndex?) join(separator?) lastIndexOf(value, fromIndex?) map(callbackFn, thisArg?) push(...elements) reduce(callbackFn, initialValue?) reduceRight(callbackFn, initialValue?) slice(start?, end?) some(callbackFn, thisArg?) sort(compareFn?) splice(start, deleteCount?, ...items) toLocaleString(locales?, options?) toSorted(compareFn?) toSpliced(start, deleteCount?, ...items) unshift(...elements) with(index, value)
Uint8Array.__proto__: from(items, mapFn?, thisArg?) of(...elements)
Uint8Array.__proto__.prototype: at(index) copyWithin(target, start, end?) every(callbackFn, thisArg?) fill(value, start?, end?) filter(callbackFn, thisArg?) find(callbackFn, thisArg?) findIndex(callbackFn, thisArg?) findLast(callbackFn, thisArg?) findLastIndex(callbackFn, thisArg?) forEach(callbackFn, thisArg?) includes(value, fromIndex?) indexOf(value, fromIndex?) join(separator?) lastIndexOf(value, fromIndex?) map(callbackFn, thisArg?) reduce(callbackFn, initialValue?) reduceRight(callbackFn, initialValue?) set(source, offset?) slice(start?, end?) some(callbackFn, thisArg?) sort(compareFn?) subarray(start?, end?) toSorted(compareFn?) with(index, value)
ArrayBuffer: isView(value)
ArrayBuffer.prototype: resize(newLength) slice(start?, end?) transfer(newLength?)
Atomics: add(typedArray, index, value) and(typedArray, index, value) compareExchange(typedArray, index, expected, replacement) exchange(typedArray, index, value) isLockFree(size) load(typedArray, index) notify(typedArray, index, count?) or(typedArray, index, value) store(typedArray, index, value) sub(typedArray, index, value) wait(typedArray, index, value, timeout?) xor(typedArray, index, value)
BigInt: asIntN(bits, bigint) asUintN(bits, bigint)
BigInt.prototype: toLocaleString(locales?, options?) toString(radix?)
DataView.prototype: getFloat32(byteOffset, littleEndian?) getFloat64(byteOffset, littleEndian?) getInt16(byteOffset, littleEndian?) getInt32(byteOffset, littleEndian?) getInt8(byteOffset) getUint16(byteOffset, littleEndian?) getUint32(byteOffset, littleEndian?) getUint8(byteOffset) setFloat32(byteOffset, value, littleEndian?) setFloat64(byteOffset, value, littleEndian?) setInt16(byteOffset, value, littleEndian?) setInt32(byteOffset, value, littleEndian?) setInt8(byteOffset, value) setUint16(byteOffset, value, littleEndian?) setUint32(byteOffset, value, littleEndian?) setUint8(byteOffset, value)
Date: UTC(year, month?, date?, hours?, minutes?, seconds?, ms?) parse(string)
Date.prototype: setDate(date) setFullYear(year, month?, date?) setHours(hours, minutes?, seconds?, ms?) setMilliseconds(ms) setMinutes(minutes, seconds?, ms?) setMonth(month, date?) setSeconds(seconds, ms?) setTime(time) setUTCDate(date) setUTCFullYear(year, month?, date?) setUTCHours(hours, minutes?, seconds?, ms?) setUTCMilliseconds(ms) setUTCMinutes(minutes, seconds?, ms?) setUTCMonth(month, date?) setUTCSeconds(seconds, ms?) toJSON(key?) toLocaleDateString(locales?, options?) toLocaleString(locales?, options?) toLocaleTimeString(locales?, options?)
Error: captureStackTrace(error, constructor?)
Function.prototype: apply(thisArg, arguments?) bind(thisArg, ...arguments) call(thisArg, ...arguments)
JSON: parse(text, reviver?) stringify(value, replacer?, space?)
Map: groupBy(items, callbackFn)
Map.prototype: delete(key) forEach(callbackFn, thisArg?) get(key) has(key) set(key, value)
Math: abs(x) acos(x) acosh(x) asin(x) asinh(x) atan(x) atan2(y, x) atanh(x) cbrt(x) ceil(x) clz32(x) cos(x) cosh(x) exp(x) expm1(x) floor(x) fround(x) hypot(...values) imul(x, y) log(x) log10(x) log1p(x) log2(x) max(...values) min(...values) pow(base, exponent) round(x) sign(x) sin(x) sinh(x) sqrt(x) tan(x) tanh(x) trunc(x)
Number: isFinite(value) isInteger(value) isNaN(value) isSafeInteger(value)
Number.prototype: toExponential(fractionDigits?) toFixed(digits?) toLocaleString(locales?, options?) toPrecision(precision?) toString(radix?)
Object: assign(target, ...sources) create(prototype, properties?) defineProperties(object, properties) defineProperty(object, key, descriptor) entries(object) freeze(object) fromEntries(entries) getOwnPropertyDescriptor(object, key) getOwnPropertyDescriptors(object) getOwnPropertyNames(object) getOwnPropertySymbols(object) getPrototypeOf(object) groupBy(items, callbackFn) hasOwn(object, key) is(value1, value2) isExtensible(object) isFrozen(object) isSealed(object) keys(object) preventExtensions(object) seal(object) setPrototypeOf(object, prototype) values(object)
Object.prototype: hasOwnProperty(key) isPrototypeOf(object) propertyIsEnumerable(key)
Promise: all(promises) allSettled(promises) any(promises) race(promises) reject(reason) resolve(value)
Promise.prototype: catch(onRejected) finally(onFinally) then(onFulfilled, onRejected?)
Proxy: revocable(target, handler)
Reflect: apply(target, thisArg, arguments) construct(target, arguments, newTarget?) defineProperty(target, key, descriptor) deleteProperty(target, key) get(target, key, receiver?) getOwnPropertyDescriptor(target, key) getPrototypeOf(target) has(target, key) isExtensible(target) ownKeys(target) preventExtensions(target) set(target, key, value, receiver?) setPrototypeOf(target, prototype)
RegExp.prototype: exec(string) test(string)
Set.prototype: add(value) delete(value) forEach(callbackFn, thisArg?) has(value)
String: fromCharCode(...units) fromCodePoint(...points) raw(template, ...substitutions)
String.prototype: at(index) charAt(index) charCodeAt(index) codePointAt(index) concat(...strings) endsWith(search, endPosition?) includes(search, position?) indexOf(search, position?) lastIndexOf(search, position?) localeCompare(that, locales?, options?) match(regexp) matchAll(regexp) normalize(form?) padEnd(length, padding?) padStart(length, padding?) repeat(count) replace(pattern, replacement) replaceAll(pattern, replacement) search(regexp) slice(start?, end?) split(separator, limit?) startsWith(search, position?) substring(start, end?) toLocaleLowerCase(locales?) toLocaleUpperCase(locales?)
Symbol: for(key) keyFor(symbol)
WeakMap.prototype: delete(key) get(key) has(key) set(key, value)
WeakSet.prototype: add(value) delete(value) has(value)
`;
let known;

function knownSignature(value) {
  if (!known) {
    known = new Map();
    for (const line of SIGNATURES.trim().split('\n')) {
      const [, make, holder, functions] = /^(new )?([\w.]+): (.*)$/.exec(line);
      const object = holder.split('.').reduce((found, name) => (name === '__proto__' ? Object.getPrototypeOf(found) : property(found, name)), world);
      for (const [, name, parameters] of functions.matchAll(/(\w+)(\([^)]*\))/g)) {
        const found = Object.getOwnPropertyDescriptor(object, name);
        if (found && found.value) known.set(found.value, [make || '', parameters]);
      }
    }
  }
  return known.get(value);
}

// Returns a function's parameters, as written in its source.
function signature(value, name) {
  const source = Function.prototype.toString.call(value);
  const arrow = /^(?:async\s+)?([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*=>/u.exec(source);
  if (arrow) return `${name}(${arrow[1]})`;
  const from = /^class\b/.test(source) ? source.search(/\bconstructor\s*\(/) : 0;
  if (from < 0) {
    // It takes the parameters of the class that it extends.
    const base = Object.getPrototypeOf(value);
    return base === Function.prototype || typeof base !== 'function' || util.types.isProxy(base) ? `new ${name}()` : `new ${signature(base, name).replace(/^new /, '')}`;
  }
  const [make, parameters] = knownSignature(value) || [];
  if (parameters) return `${make}${name}${parameters}`;
  if (/^bound /.test(String(Object.getOwnPropertyDescriptor(value, 'name')?.value))) return `${name}(...)`;
  if (source.endsWith('{ [native code] }')) return `${name}(${Array.from({ length: value.length }, (_, at) => `argument${at + 1}`).join(', ')})`;
  const open = source.indexOf('(', from);
  let depth = 0;
  let quote = '';
  for (let at = open; at < source.length; at++) {
    const char = source[at];
    if (quote) {
      if (char === '\\') at++;
      else if (char === quote) quote = '';
    } else if (/['"`]/.test(char)) quote = char;
    else if (/[([{]/.test(char)) depth++;
    else if (/[)\]}]/.test(char) && --depth === 0) return (from ? 'new ' : '') + name + source.slice(open, at + 1);
  }
  return `${name}(...)`;
}

// Finds the call whose parentheses contain the cursor.
function calledBefore(text) {
  let depth = 0;
  for (let at = text.length - 1; at >= 0; at--) {
    if (text[at] === ')') depth++;
    else if (text[at] === '(' && depth-- === 0) return CHAIN.exec(text.slice(0, at).trimEnd());
  }
  return null;
}

function look({ before, after, detail }) {
  const chain = CHAIN.exec(before + /^[\p{ID_Continue}$]*/u.exec(after)[0]) || calledBefore(before);
  let value;
  try {
    if (!chain || (KEYWORDS.includes(chain[1]) && !Object.hasOwn(LITERALS, chain[1]))) return { found: false };
    value = Object.hasOwn(LITERALS, chain[1]) ? LITERALS[chain[1]] : resolve(chain[1]);
  } catch {
    return { found: false };
  }
  const lines = [];
  const name = chain[1].match(LINK).pop();
  if (typeof value === 'function') {
    const source = Function.prototype.toString.call(value);
    lines.push(`Signature: ${signature(value, name)}`, `Type: ${source.startsWith('class') ? 'class' : value.constructor.name}`);
    if (!source.endsWith('{ [native code] }')) lines.push('Source:', detail || source.length < 4000 ? source : `${source.slice(0, 4000)} ...`);
  } else {
    const made = typeof value === 'object' && value !== null && !util.types.isProxy(value) ? Object.getPrototypeOf(value) : null;
    const maker = made && Object.getOwnPropertyDescriptor(made, 'constructor');
    const kind = maker && typeof maker.value === 'function' ? maker.value.name : value === null ? 'null' : typeof value;
    const shown = util.inspect(value, { depth: detail ? 4 : 1, customInspect: false, showProxy: true, maxStringLength: 2000 });
    lines.push(`Type: ${kind}`, `Value: ${shown}`);
  }
  return { found: true, text: lines.join('\n') };
}

function variables({ source }) {
  const isNodes = (name) => nodesNames.has(name);
  return new vm.Script(source).runInThisContext()({ world, isNodes, isProxy: util.types.isProxy, read: (name) => property(world, name) });
}

function answer(id, ask) {
  let content;
  try {
    content = ask();
  } catch {
    content = {};
  }
  send({ id, event: 'reply', content });
}

process.on('SIGINT', () => { if (notebook) send({ event: 'signalled' }); });
process.on('uncaughtException', (error) => {
  send({ id: runId(), event: 'stderr', text: `Uncaught ${describe(error, '').stack}\n` });
});
process.on('unhandledRejection', (error) => {
  send({ id: runId(), event: 'stderr', text: `Uncaught (in promise) ${describe(error, '').stack}\n` });
});

const file = path.join(process.cwd(), 'script.js');
world.require = createRequire(file);
if (notebook) {
  const { Module } = nodeRequire('node:module');
  const script = new Module(file);
  script.filename = file;
  script.paths = Module._nodeModulePaths(process.cwd());
  // A script has no `import.meta`: in a cell's code, this name replaces it.
  const meta = { dirname: process.cwd(), filename: file, url: pathToFileURL(file).href, resolve: (specifier) => (builtinModules.includes(specifier.replace(/^node:/, '')) ? `node:${specifier.replace(/^node:/, '')}` : pathToFileURL(world.require.resolve(specifier)).href) };
  Object.defineProperty(world, 'import_meta', { value: meta, writable: true, configurable: true });
  for (const [name, value] of Object.entries({ module: script, exports: script.exports, __dirname: process.cwd(), __filename: file })) {
    Object.defineProperty(world, name, { value, writable: true, configurable: true });
  }
}
for (const [name, value] of Object.entries(notebook ? { display, ...DIALOGS } : {})) Object.defineProperty(world, name, { value, writable: true, configurable: true });
// State that the cells' scripts share; the user does not see it.
for (const [name, value] of Object.entries(notebook ? { lines: { shell, help }, names: new Set(), cell: undefined } : {})) Object.defineProperty(world, Symbol.for(`agentbay.${name}`), { value, writable: true });
nodesNames = new Set(Object.getOwnPropertyNames(world));
process.exitCode = 0;

let rest = '';
const input = fs.createReadStream(null, { fd: inFd, encoding: 'utf8' });
input.on('data', (chunk) => {
  const lines = (rest + chunk).split('\n');
  rest = lines.pop();
  for (const line of lines) {
    const request = JSON.parse(line);
    if (request.op === 'run') waiting.push(request);
    else if (request.op === 'interrupt') {
      if (interruptPending && current?.id === request.id) interruptPending();
    } else if (request.op === 'complete') answer(request.id, () => complete(request));
    else if (request.op === 'inspect') answer(request.id, () => look(request));
    else if (request.op === 'variables') answer(request.id, () => variables(request));
  }
  next();
});
input.on('end', () => process.exit(0));
input.on('error', () => process.exit(0));

setImmediate(() => {
  usual = resources();
  send({ event: 'ready', version: process.version });
});
