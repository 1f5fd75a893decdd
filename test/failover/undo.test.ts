import { expect, it } from "vitest";
import { Undo } from "./undo.ts";

it("changes are taken back once, the newest first, also one that failed half way", async () => {
  const undo = new Undo();
  const back: string[] = [];
  const put = (name: string, fails = false) =>
    undo.put(
      name,
      async () => {
        if (fails) throw new Error("half way");
      },
      async () => back.push(name),
    );
  await put("link");
  await put("split");
  await expect(put("power", true)).rejects.toThrow("half way");
  await undo.take("split");
  await undo.restore();
  await undo.restore();
  expect(back).toEqual(["split", "power", "link"]);
});
