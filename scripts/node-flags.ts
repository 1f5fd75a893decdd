// How Node is started for the agent, by the launcher in dist/ and by the image. A small young generation, collected by the thread
// that fills it (helpers wait for a processor on a busy node, and the loop with them), an old one collected when a tenth was added
// to what lives, two pools of memory for C libraries: without these the agent would have half as much again resident, and
// longer pauses.

export const NODE_FLAGS: readonly string[] = [
  "--max-semi-space-size=2",
  "--no-parallel-scavenge",
  "--heap-growing-percent=10",
];

/** For MALLOC_ARENA_MAX, unless whoever starts it set another. */
export const MALLOC_ARENAS = "2";
