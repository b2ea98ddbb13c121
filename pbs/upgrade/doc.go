// Package upgrade turns an HTTP/1.1 request into a PBS session: the server's
// side of what backup and reader connections have in common.
//
// A client asks for /backup or /reader with an Upgrade header, is answered
// with 101, and from then on speaks HTTP/2 on the same TLS stream, without any
// negotiation (PBS protocol notes §3.1, §3.2). In order of use:
//
//	Check      is the request one for this protocol?
//	Handshake  answers with 101 and takes the connection over
//	Serve      speaks HTTP/2 on it until the client has gone
//	Mux        finds the handler of a path; [Params] reads its parameters
//
// Who may do so, and what the session is about, is decided by the caller
// before the handshake, because a refusal is an answer in HTTP/1.1.
package upgrade
