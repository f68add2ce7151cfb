// A story, streamed; then a letter that waits for an answer: `node main.mjs http://localhost:8123`
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], apiKey: process.env.PLAIT_API_KEY ?? null });

const stream = client.runs.stream(null, "story", {
  input: { topic: "a lighthouse" },
  streamMode: "messages-tuple",
});
for await (const { event, data } of stream) {
  if (event === "messages") process.stdout.write(data[0].content);
}
console.log();

const thread = await client.threads.create();
const asked = await client.runs.wait(thread.thread_id, "letter", { input: { to: "Ada", about: "engines" } });
console.log(asked.__interrupt__[0].value.question);
const letter = await client.runs.wait(thread.thread_id, "letter", { command: { resume: "yes" } });
console.log(letter.sent);
