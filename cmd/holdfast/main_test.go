package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv(asHoldfast) != "" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// The scripts run the real command and compare what it prints and how it ends.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
