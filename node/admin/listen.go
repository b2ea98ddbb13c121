package admin

import (
	"errors"
	"net"
	"os"
)

// maxPath is how long the path of a socket may be: 108 bytes with a zero on
// Linux, 104 on BSD.
const maxPath = 103

// listen makes the socket. Its directory lets nobody else in, so it does not
// matter that its own rights come a moment later.
func listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, &longPath{path}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// A longPath is too long for a socket.
type longPath struct{ path string }

func (e *longPath) Error() string { return "path " + e.path + " is too long for a socket" }
func (e *longPath) Hint() string  { return "use a directory with a shorter path for --data" }
