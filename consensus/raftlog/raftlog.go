// Package raftlog gives raft a logger that writes to ours.
package raftlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// New gives raft a logger that writes to log.
func New(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard})
	l.RegisterSink(sink{log})
	return l
}

type sink struct{ log *slog.Logger }

// levels translates. What raft calls a warning happens in every election, and
// what it calls an error when a node is away.
var levels = map[hclog.Level]slog.Level{
	hclog.Trace: slog.LevelDebug - 4, hclog.Debug: slog.LevelDebug - 4, hclog.Info: slog.LevelDebug,
	hclog.Warn: slog.LevelInfo, hclog.Error: slog.LevelWarn,
}

func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if msg == "skipping application of old log" {
		return // at every start: load has applied it
	}
	for i, a := range args {
		if f, is := a.(hclog.Format); is && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	s.log.Log(context.Background(), levels[level], msg, append([]any{"part", "raft"}, args...)...)
}
