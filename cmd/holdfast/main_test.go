package main

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asHoldfast) != "" {
		main()
		return
	}
	// Most tests wait for daemons, and not for the processor.
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, 2*runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// The scripts run the real command and compare what it prints and how it ends.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// The same with a real S3 server, at $S3 with the bucket "backups".
func TestCloudScripts(t *testing.T) {
	server := cloudtest.Start(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/cloud", Setup: func(e *testscript.Env) error {
		e.Setenv("S3", server.URL)
		e.Setenv("AWS_ACCESS_KEY_ID", cloudtest.Key)
		e.Setenv("AWS_SECRET_ACCESS_KEY", cloudtest.Secret)
		e.Setenv("HOLDFAST_S3_SECRET", cloudtest.Secret)
		return nil
	}})
}
