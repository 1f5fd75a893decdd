// MAC addresses as text, in lower case with colons, and as six bytes.

/** "02:00:00:00:00:01". */
export type Mac = string;

export function macText(bytes: Uint8Array, at = 0): Mac {
  return Array.from(bytes.subarray(at, at + 6), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function macBytes(mac: Mac): Uint8Array {
  return Uint8Array.from(mac.split(":"), (part) => Number.parseInt(part, 16));
}
