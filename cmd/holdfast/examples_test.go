package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

func newTestRoot() *cobra.Command {
	return newRoot(cli.Env{Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }})
}

// words splits a line as a shell does that knows single quotes.
func words(line string) (list []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// Every verb shows how it is used, and what is shown is accepted.
func TestExamples(t *testing.T) {
	for _, line := range examples {
		root := newTestRoot()
		c, rest, err := root.Find(words(line))
		if err != nil || !c.Runnable() || c.HasSubCommands() {
			t.Errorf("%q: no such verb: %v", line, err)
			continue
		}
		if err := c.ParseFlags(rest); err != nil {
			t.Errorf("%q: %v", line, err)
		} else if err := c.ValidateArgs(c.Flags().Args()); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if c.Example != "  holdfast "+line {
			t.Errorf("%q is not what is shown: the verb has an example of its own", line)
		}
	}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Runnable() && !c.HasSubCommands() && !c.Hidden && c.Example == "" {
			t.Errorf("%s has no example: give it one, or add a line in examples.go", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newTestRoot())
	if !slices.IsSorted(examples) {
		t.Error("the examples are not in order")
	}
}
