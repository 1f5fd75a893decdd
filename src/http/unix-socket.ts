// Listens on a unix socket that only this user can reach. The socket of a process that ended is replaced; one that
// answers, and anything that is no socket, is left alone.
import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import type { Server } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import { Failure } from "../lib/errors.ts";

/** Makes the directory (0700) when it is absent and listens (0600). @throws Failure "conflict" when the path is in use, "machine" when it cannot be made */
export async function listenOnUnixSocket(server: Server, path: string): Promise<void> {
  try {
    // A directory that exists keeps its mode: it may be shared (/tmp); the socket's own mode holds there too.
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await removeStale(path);
    await bind(server, path);
    await chmod(path, 0o600);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const reason = (cause as Error).message;
    throw new Failure("machine", path, `could not listen on the API socket ${path}: ${reason}`, { cause });
  }
}

async function removeStale(path: string): Promise<void> {
  const there = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw new Failure(
      "conflict",
      path,
      `could not listen on the API socket ${path}: there is a file that is no socket`,
    );
  }
  if (await answers(path)) {
    const fix = "stop it, or give this one a socket of its own with --api-socket";
    throw new Failure("conflict", path, `could not listen on the API socket ${path}: another agent has it; ${fix}`);
  }
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect(path, () => {
    socket.destroy();
    resolve(true);
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
    else if (error.code === "EAGAIN") resolve(true);
    else reject(error);
  });
  return promise;
}

function bind(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  // The path is bound within listen(): it never exists with another mode.
  const mask = process.umask(0o177);
  try {
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  } finally {
    process.umask(mask);
  }
  return promise;
}
