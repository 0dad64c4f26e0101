// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
import querystring from "node:querystring";
import { Readable, Writable } from "node:stream";
import fastifyFormbody from "@fastify/formbody";
import fastifyMultipart from "@fastify/multipart";
import bodyParser from "body-parser";
import busboy from "busboy";
import fastify from "fastify";
import formidable from "formidable";
import { Hono } from "hono";
import JSON5 from "json5";
import multer from "multer";
import qs from "qs";
import { Request, Response } from "undici";

const MILLISECONDS = 2000; // a parser that does not end reads no model

const headersOf = (type) => (type === null ? {} : { "content-type": type });

function said(value) {
  if (value === undefined || value === null) return null;
  return typeof value === "string" ? value : { other: String(JSON.stringify(value)).slice(0, 200) };
}

// Like a request of node:http: field names in small letters, a body as a stream.
function request({ method, type, body }) {
  const made = Readable.from([body]);
  made.method = method;
  made.url = "/";
  made.headers = { "content-length": String(body.length) };
  if (type !== null) made.headers["content-type"] = type;
  return made;
}

// What the middlewares of express leave in request.body.
function middlewares(...all) {
  return (one) =>
    new Promise((resolve) => {
      const made = request(one);
      let index = 0;
      const next = (error) => {
        if (error || index === all.length) resolve(error ? null : said(made.body?.model));
        else all[index++](made, {}, next);
      };
      next();
    });
}

async function byFastify(options) {
  const app = fastify();
  await app.register(fastifyFormbody);
  await app.register(fastifyMultipart, options);
  for (const method of ["QUERY"]) app.addHttpMethod(method, { hasBody: true });
  app.all("/", (one) => ({ model: said(one.body?.model?.value ?? one.body?.model) }));
  await app.ready();
  return async ({ method, type, body }) => {
    const answer = await app.inject({ method, url: "/", headers: headersOf(type), payload: body });
    return answer.statusCode === 200 ? answer.json().model : null;
  };
}

const hono = new Hono();
hono.all("/form", async (context) => context.json({ model: said((await context.req.parseBody()).model) }));
hono.all("/all", async (context) => context.json({ model: said((await context.req.parseBody({ all: true, dot: true })).model) }));
hono.all("/json", async (context) => context.json({ model: said((await context.req.json()).model) }));
hono.onError((error, context) => context.json({ model: null }));

const byHono = (path) => async ({ method, type, body }) => {
  const answer = await hono.request(path, { method, headers: headersOf(type), body });
  return (await answer.json()).model;
};

const discarded = () => new Writable({ write: (octets, encoding, done) => done() });

const byFormidable = (options) => async (one) => {
  const [fields] = await formidable({ fileWriteStreamHandler: discarded, ...options }).parse(request(one));
  return fields.model === undefined ? null : said(fields.model.length === 1 ? fields.model[0] : fields.model);
};

const byBusboy = (one) =>
  new Promise((resolve) => {
    let found = null;
    const parser = busboy({ headers: request(one).headers });
    parser.on("field", (name, value) => { if (name === "model") found = value; });
    parser.on("file", (name, stream) => stream.resume());
    parser.on("close", () => resolve(found));
    parser.on("error", () => resolve(null));
    request(one).pipe(parser);
  });

const modelOf = async (message) => said((await message.formData()).get("model"));

const text = ({ body }) => body.toString("utf8");
const query = ({ path }) => path.toString("latin1").split("#")[0].split("?").slice(1).join("?");

// What reads any text as a form is asked only about what is called one.
const ofForm = (read) => (one) => (one.type !== null && /urlencoded/i.test(one.type) ? read(one) : null);
const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value.model : null);
const anyType = () => true;

const parsers = {
  "express.json": middlewares(bodyParser.json()),
  "express.json, any type": middlewares(bodyParser.json({ type: anyType, strict: false })),
  "express.urlencoded, qs": middlewares(bodyParser.urlencoded({ extended: true })),
  "express.urlencoded, querystring": middlewares(bodyParser.urlencoded({ extended: false })),
  "express, json and forms": middlewares(bodyParser.json(), bodyParser.urlencoded({ extended: true }), multer().any()),
  "express, forms and json": middlewares(bodyParser.urlencoded({ extended: true }), bodyParser.json({ type: "*/*" })),
  "multer, none": middlewares(multer().none()),
  "multer, any": middlewares(multer().any()),
  "qs": ofForm((one) => said(qs.parse(text(one)).model)),
  "qs, the query first": ofForm((one) => said(qs.parse(query(one)).model ?? qs.parse(text(one)).model)),
  "qs, with dots": ofForm((one) => said(qs.parse(text(one), { allowDots: true, ignoreQueryPrefix: true }).model)),
  "qs, semicolons": ofForm((one) => said(qs.parse(text(one), { delimiter: /[&;]/ }).model)),
  "qs, Latin-1": ofForm((one) => said(qs.parse(text(one), { charset: "iso-8859-1", interpretNumericEntities: true }).model)),
  "querystring": ofForm((one) => said(querystring.parse(text(one)).model)),
  "querystring, Latin-1": ofForm((one) => said(querystring.parse(one.body.toString("latin1")).model)),
  "URLSearchParams": ofForm((one) => new URLSearchParams(text(one)).get("model")),
  "URLSearchParams, the last": ofForm((one) => new URLSearchParams(text(one)).getAll("model").at(-1) ?? null),
  "JSON.parse": (one) => said(object(JSON.parse(text(one)))),
  "JSON.parse, trimmed": (one) => said(object(JSON.parse(text(one).trim()))),
  "JSON5": (one) => said(object(JSON5.parse(text(one)))),
  "JSON.parse, TextDecoder": (one) => said(object(JSON.parse(new TextDecoder().decode(one.body)))),
  "fastify": await byFastify({ attachFieldsToBody: true }),
  "fastify, values": await byFastify({ attachFieldsToBody: "keyValues" }),
  "hono.parseBody": byHono("/form"),
  "hono.parseBody, all and dots": byHono("/all"),
  "hono.json": byHono("/json"),
  "formidable": byFormidable({}),
  "formidable, Latin-1": byFormidable({ encoding: "latin1" }),
  "busboy": byBusboy,
  "new URL, a path": ({ path }) => {
    const found = /^\/model\/(.+)\/invoke$/.exec(new URL(path.toString("latin1"), "http://x").pathname);
    return found === null ? null : decodeURIComponent(found[1]);
  },
  "undici Request": ({ method, type, body }) =>
    modelOf(new Request("http://localhost/", { method, headers: headersOf(type), body })),
  "undici Response": ({ type, body }) => modelOf(new Response(body, { headers: headersOf(type) })),
  "Node's own Response": ({ type, body }) => modelOf(new globalThis.Response(body, { headers: headersOf(type) })),
};

async function answer(read, one) {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, MILLISECONDS, null); });
  try {
    return (await Promise.race([read(one), late])) ?? null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

// What parsers throw behind their promise's back is no answer either.
process.on("uncaughtException", () => {});
process.on("unhandledRejection", () => {});

async function* fields() {
  let held = Buffer.alloc(0);
  for await (const piece of process.stdin) {
    held = held.length ? Buffer.concat([held, piece]) : piece;
    let at = 0;
    while (held.length - at >= 4) {
      const size = held.readUInt32BE(at);
      if (size === 0xffffffff) {
        at += 4;
        yield null;
        continue;
      }
      if (held.length - at - 4 < size) break;
      yield held.subarray(at + 4, at + 4 + size);
      at += 4 + size;
    }
    held = held.subarray(at);
  }
}

process.stdout.write(JSON.stringify(Object.keys(parsers)) + "\n");
let gathered = [];
for await (const field of fields()) {
  gathered.push(field === null ? null : Buffer.from(field));
  if (gathered.length < 4) continue;
  const [method, type, path, body] = gathered;
  gathered = [];
  const one = { method: method.toString("latin1"), type: type === null ? null : type.toString("latin1"), path, body: body ?? Buffer.alloc(0) };
  const answers = await Promise.all(Object.values(parsers).map((read) => answer(read, one)));
  process.stdout.write(JSON.stringify(answers) + "\n");
}
process.exit(0);
