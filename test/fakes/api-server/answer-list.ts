// Writes one page of a list from the stored texts.
import type { BodyWriter } from "./body-writer.ts";
import type { ListPage } from "./list-page.ts";
import { apiVersionOf, type Resource } from "./resources.ts";

const OPEN = Buffer.from("{");
const COMMA_OPEN = Buffer.from(",{");
const CLOSE = Buffer.from("]}\n");

export async function answerList(
  writer: BodyWriter,
  resource: Resource,
  page: ListPage,
  reversed: boolean,
): Promise<void> {
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.continueToken === "" ? {} : { continue: page.continueToken }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  };
  const head = JSON.stringify({ kind: `${resource.kind}List`, apiVersion: apiVersionOf(resource), metadata });
  writer.begin();
  await writer.write(Buffer.from(`${head.slice(0, -1)},"items":[`));
  const objects = reversed ? page.objects.toReversed() : page.objects;
  for (const [index, { tail }] of objects.entries()) {
    const room = writer.write(index === 0 ? OPEN : COMMA_OPEN, tail);
    if (room !== undefined) await room;
  }
  await writer.write(CLOSE);
  await writer.end();
}
