// The JavaScript engine: runs scripts one after the other in one persistent context.
//
// In: JSON lines on the first descriptor of AGENTBAY_WORKER_FDS:
//   {"id", "op": "run", "code", "await": bool, "name"}   run a script; with `await` a promise that
//                                                        is its value is waited for
// Out: JSON lines on the second descriptor:
//   {"event": "ready", "version"}                        once
//   {"id", "event": "stdout" | "stderr", "text"}         as they happen, also after `done`
//   {"id", "event": "result", "data", "metadata"}        the value of the last expression
//   {"id", "event": "error", "name", "value", "stack"}   the script failed
//   {"id", "event": "done"}                              always the last of a run
// SIGINT interrupts the running script and leaves the context alive. The end of the input ends
// the worker. Descriptors 1 and 2 stay free for what children of the script write.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');
const { createRequire } = require('node:module');
const fs = require('node:fs');
const path = require('node:path');
const util = require('node:util');
const vm = require('node:vm');

const [inFd, outFd] = process.env.AGENTBAY_WORKER_FDS.split(',').map(Number);
delete process.env.AGENTBAY_WORKER_FDS;

// Which run an asynchronous continuation belongs to: late output is tagged with its own script.
const owner = new AsyncLocalStorage();
let current = null;
let interruptPending = null;

function send(frame) {
  const data = Buffer.from(JSON.stringify(frame) + '\n');
  let offset = 0;
  while (offset < data.length) {
    try {
      offset += fs.writeSync(outFd, data, offset);
    } catch (error) {
      if (error.code === 'EPIPE') process.exit(0);
      // A full pipe that became non-blocking: what is not written now would be lost.
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function runId() {
  const run = owner.getStore() || current;
  return run ? run.id : null;
}

function redirect(name) {
  const stream = process[name];
  stream.write = (chunk, encoding, callback) => {
    const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
    if (text) send({ id: runId(), event: name, text });
    const done = typeof encoding === 'function' ? encoding : callback;
    if (done) process.nextTick(done);
    return true;
  };
}
redirect('stdout');
redirect('stderr');

function inspect(value) {
  // The storage marks promises with symbols of its own (Node 18 to 22); they are not the user's.
  return owner.exit(() => util.inspect(value, { depth: 4 }));
}

function describe(error) {
  if (error instanceof Error || Object.prototype.toString.call(error) === '[object Error]') {
    const lines = String(error.stack || error).split('\n');
    // What lies below the script's own frames is this worker.
    const below = lines.findIndex((line) => line.includes('(node:vm:') || line.includes(__filename));
    const own = below < 0 ? lines : lines.slice(0, below);
    return { name: String(error.name), value: String(error.message), stack: own.join('\n') };
  }
  return { name: 'Error', value: inspect(error), stack: `Uncaught ${inspect(error)}` };
}

const INTERRUPTED = { name: 'KeyboardInterrupt', value: 'the script was interrupted', stack: 'KeyboardInterrupt: the script was interrupted' };

function fail(id, error) {
  const interrupted = error && error.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED';
  send({ id, event: 'error', ...(interrupted ? INTERRUPTED : describe(error)) });
}

function bundle(value) {
  return { data: { 'text/plain': inspect(value) }, metadata: {} };
}

async function settle(promise) {
  const interrupted = new Promise((_, reject) => {
    interruptPending = () => reject(Object.assign(new Error(), { code: 'ERR_SCRIPT_EXECUTION_INTERRUPTED' }));
  });
  try {
    return await Promise.race([promise, interrupted]);
  } finally {
    interruptPending = null;
  }
}

function run(request) {
  const job = { id: request.id };
  current = job;
  const finish = () => {
    current = null;
    send({ id: job.id, event: 'done' });
    next();
  };
  const show = (value) => {
    if (value !== undefined) send({ id: job.id, event: 'result', ...bundle(value) });
  };
  owner.run(job, () => {
    let value;
    try {
      const script = new vm.Script(request.code, { filename: request.name || `script-${request.id}.js`, importModuleDynamically: vm.constants && vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER });
      value = script.runInThisContext({ breakOnSigint: true, displayErrors: false });
      if (!request.await || !value || typeof value.then !== 'function') show(value);
    } catch (error) {
      fail(job.id, error);
      value = undefined;
    }
    if (request.await && value && typeof value.then === 'function') {
      settle(value).then(show).catch((error) => fail(job.id, error)).then(finish);
      return;
    }
    // Jobs that are ready now still belong to the script; timers and input do not.
    Promise.resolve().then(() => process.nextTick(finish));
  });
}

const waiting = [];
function next() {
  if (current === null && waiting.length) run(waiting.shift());
}

// Outside a script there is nothing to interrupt but a promise that is being waited for.
process.on('SIGINT', () => { if (interruptPending) interruptPending(); });
process.on('uncaughtException', (error) => {
  send({ id: runId(), event: 'stderr', text: `Uncaught ${describe(error).stack}\n` });
});
process.on('unhandledRejection', (error) => {
  send({ id: runId(), event: 'stderr', text: `Uncaught (in promise) ${describe(error).stack}\n` });
});

globalThis.require = createRequire(path.join(process.cwd(), 'script.js'));
process.exitCode = 0;

let rest = '';
const input = fs.createReadStream(null, { fd: inFd, encoding: 'utf8' });
input.on('data', (chunk) => {
  const lines = (rest + chunk).split('\n');
  rest = lines.pop();
  for (const line of lines) {
    const request = JSON.parse(line);
    if (request.op === 'run') waiting.push(request);
  }
  next();
});
input.on('end', () => process.exit(0));
input.on('error', () => process.exit(0));

send({ event: 'ready', version: process.version });
