// A client for Node: npm install, then
//     node client.mjs 127.0.0.1:8001 10 196 22        (top_k, then user ids; --text before them where ids are strings)
// 64-bit ids are BigInts: a JavaScript number changes what is beyond 2 ** 53.
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

const definition = loadSync(fileURLToPath(new URL("inference.proto", import.meta.url)), { keepCase: true });
const { GRPCInferenceService } = loadPackageDefinition(definition).inference;
const OUTPUTS = ["item_id", "score", "count", "user_known", "release"];
const MAX_ANSWER_BYTES = 64 * 1024 * 1024; // 4 MiB unless told otherwise

const bytesOf = {
  INT64: (values) => Buffer.from(BigInt64Array.from(values, BigInt).buffer),
  INT32: (values) => Buffer.from(Int32Array.from(values).buffer),
  BOOL: (values) => Buffer.from(Uint8Array.from(values)),
  BYTES: (values) => Buffer.concat(values.flatMap((value) => {
    const text = Buffer.from(value, "utf8"), length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    return [length, text];
  })),
};

function strings(buffer) {
  const found = [];
  for (let at = 0; at < buffer.length; ) {
    const end = at + 4 + buffer.readUInt32LE(at);
    found.push(buffer.toString("utf8", at + 4, end));
    at = end;
  }
  return found;
}

function numbers(buffer, size, read) {
  return Array.from({ length: buffer.length / size }, (_, index) => read.call(buffer, index * size));
}

const valuesOf = {
  INT64: (buffer) => numbers(buffer, 8, buffer.readBigInt64LE),
  INT32: (buffer) => numbers(buffer, 4, buffer.readInt32LE),
  FP32: (buffer) => numbers(buffer, 4, buffer.readFloatLE),
  BOOL: (buffer) => numbers(buffer, 1, buffer.readUInt8),
  BYTES: strings,
};

export class RetrievalClient {
  constructor(address, model = "retrieval") {
    this.model = model;
    this.stub = new GRPCInferenceService(address, credentials.createInsecure(), {
      "grpc.max_receive_message_length": MAX_ANSWER_BYTES,
    });
  }

  // Returns a row for each user: itemIds (BigInt or string), scores, userKnown, release.
  async recommend(userIds, { topK = 10, exclude = userIds.map(() => []), includeSeen = false, filters = userIds.map(() => ""), milliseconds = 2000 } = {}) {
    const rows = userIds.length, width = Math.max(0, ...exclude.map((ids) => ids.length));
    const idType = typeof userIds[0] === "string" ? "BYTES" : "INT64";
    const itemType = typeof (exclude.flat()[0] ?? userIds[0]) === "string" ? "BYTES" : "INT64";
    const nothing = itemType === "BYTES" ? "" : -(2n ** 63n); // pads lists: no item has it
    const padded = exclude.flatMap((ids) => [...ids, ...Array(width - ids.length).fill(nothing)]);
    const tensors = [
      ["user_id", idType, [rows, 1], userIds],
      ["top_k", "INT32", [rows, 1], Array(rows).fill(topK)],
      ["exclude_item_ids", itemType, [rows, width], padded],
      ["include_seen", "BOOL", [rows, 1], Array(rows).fill(includeSeen)],
      ["filter", "BYTES", [rows, 1], filters],
    ];
    const answer = await this.infer({
      model_name: this.model,
      inputs: tensors.map(([name, datatype, shape]) => ({ name, datatype, shape })),
      outputs: OUTPUTS.map((name) => ({ name })),
      raw_input_contents: tensors.map(([, type, , values]) => bytesOf[type](values)),
    }, milliseconds);
    const found = Object.fromEntries(answer.outputs.map(({ name, datatype }, index) =>
      [name, valuesOf[datatype](answer.raw_output_contents[index])]));
    return found.count.map((count, row) => {
      const start = row * (found.score.length / rows);
      return {
        itemIds: found.item_id.slice(start, start + count),
        scores: found.score.slice(start, start + count),
        userKnown: found.user_known[row] === 1,
        release: found.release[row],
      };
    });
  }

  infer(request, milliseconds) {
    const deadline = Date.now() + milliseconds;
    return new Promise((resolve, reject) =>
      this.stub.ModelInfer(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer))));
  }

  close() {
    this.stub.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [address, topK, ...rest] = process.argv.slice(2);
  const users = rest[0] === "--text" ? rest.slice(1) : rest.map(BigInt);
  const client = new RetrievalClient(address);
  const rows = await client.recommend(users, { topK: Number(topK), milliseconds: 10000 });
  for (const row of rows) console.log(JSON.stringify(row, (_, value) => (typeof value === "bigint" ? String(value) : value)));
  client.close();
}
