package tests

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the txtar scripts of testdata/script: the small behaviours of
// the command line. A script finds larder in its PATH and a home of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	larder := larderPath(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// end-daemon STATE ends the background larder of a state folder: it must
			// not outlive the script, nor write into a folder that is being removed.
			"end-daemon": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: end-daemon STATE")
				}
				in := &instance{state: ts.MkAbs(args[0]), larder: larder}
				if err := in.stopDaemon(); err != nil {
					ts.Fatalf("%v", err)
				}
			},
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(larder)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return nil
		},
	})
}
