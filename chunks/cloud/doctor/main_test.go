package doctor

import (
	"fmt"
	"os"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// server is one for all cases, which take turns and each find it empty: to
// start one for each took longer than all that the cases do.
var server *cloudtest.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	binary, err := cloudtest.Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "no S3 server to test against:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "holdfast-doctor-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	s, stop, err := cloudtest.Run(binary, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	server = s
	return m.Run()
}
