// Command bench measures larder beside bare Go servers that hold the same bytes
// in memory and, where they are installed, beside nginx as a reverse cache and
// squid with ssl_bump: hits large and small, over HTTP/1.1 and HTTP/2, cold
// fetches, many clients on one cold object, new connections, memory.
//
// Every server runs in a process of its own, all on the first core; the load and
// the origin have the other cores. Each case is run in turn for each server,
// several times; medians are printed. CPU is what the kernel accounts to the
// server's processes, so that a load that is slower than the server does not
// blur it; where the load was the slower side the table says so.
//
// The result is a Markdown table on standard output, and with -out between two
// marks of a file, which is how docs/performance.md gets it.
package main
