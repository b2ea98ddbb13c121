// Package h2 speaks HTTP/2 on a connection that was upgraded, as much of it as
// sessions of PBS need (RFC 9113; PBS protocol notes §3.2): [Serve] is the
// server's side, [Client] the client's.
//
// It differs from net/http and golang.org/x/net in what these sessions are
// about: bodies of megabytes on one connection. A client's bodies are in memory,
// and answers are read right into memory that the caller has for them; nothing
// waits in between. A server's windows may be 32 MiB, which net/http does not
// promise. What arrives goes from the
// connection right into the memory of the handler that waits for it, and what
// a handler writes right to the connection; a handler may use that memory
// again as soon as its call has returned. Nothing but what came before a
// handler asked is kept in between, and no more of it than a window.
//
// The server is also kinder to clients that are in use: a path may lack its slash, an
// authority may be missing, and whoever sends more than the window allows has
// to wait instead of being cut off (§13.7, §13.9).
package h2
