/** Where a request comes from. Behind a load balancer that is not the connection's other end. */
import type { IncomingMessage } from "node:http";
import { BlockList, isIP, isIPv4 } from "node:net";

/** An IPv4 address as a listener on `::` sees it. */
const MAPPED = /^::ffff:(?=\d+\.)/i;

/** Addresses and networks (`10.0.0.0/8`) that were checked before. */
export function networksOf(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits] = network.split("/");
    const plain = plainAddress(address);
    const family = familyOf(plain);
    if (bits === undefined) list.addAddress(plain, family);
    else list.addSubnet(address, Number(bits), familyOf(address));
  }
  return list;
}

/**
 * The address of whoever has sent a request: its connection's other end or, if that is one of the trusted proxies, the
 * one that this proxy has seen (the last of `X-Forwarded-For`; what stands before it anybody can write). IPv4 as such,
 * also where it came as IPv6. `unknown` when the connection is gone already.
 */
export function clientAddress(request: IncomingMessage, trusted: BlockList): string {
  const peer = plainAddress(request.socket.remoteAddress ?? "");
  if (peer === "") return "unknown";
  if (!trusted.check(peer, familyOf(peer))) return peer;
  const seen = plainAddress([request.headers["x-forwarded-for"]].flat().join().split(",").at(-1) ?? "");
  return isIP(seen) ? seen : peer;
}

/** Without the scope of a link, which is this machine's own business. */
function plainAddress(text: string): string {
  return text.trim().replace(/%.*$/s, "").replace(MAPPED, "");
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIPv4(address) ? "ipv4" : "ipv6";
}
