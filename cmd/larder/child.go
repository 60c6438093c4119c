package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes that shells use for a command that could not be run, and the base
// for one that a signal ended.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignalBase    = 128
)

// runChild runs argv with the standard streams of this process and env, passes
// signals on, and returns the code to exit with: the child's own, or 128 + n
// for signal n as a shell would say.
func runChild(argv, env []string) (int, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = env

	// Caught before the child exists, so that no signal falls between.
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{
		unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT,
	} {
		// What larder was started to ignore (nohup, a background job) the command
		// is to ignore too; catching it would give the command the default.
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)

	if err := cmd.Start(); err != nil {
		return startFailure(argv[0], err)
	}
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() { // ends when the child has ended
		defer close(stopped)
		for {
			select {
			case s := <-signals:
				if !fromTerminal(s) {
					// The child may just have ended: nobody is left to tell.
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	<-stopped
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return exitSignalBase + int(ws.Signal()), nil
		}
		return e.ExitCode(), nil
	}
	if err != nil {
		return exitFailure, fmt.Errorf("wait for %s: %w", argv[0], err)
	}
	return 0, nil
}

// startFailure is what a shell would exit with for the same mistake.
func startFailure(name string, err error) (int, error) {
	wrapped := fmt.Errorf("run %s: %w", name, err)
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return exitNotFound, withHint(wrapped, "is %s installed and in PATH?", name)
	case errors.Is(err, fs.ErrPermission):
		return exitNotExecutable, withHint(wrapped, "make it executable: chmod +x %s", name)
	default:
		return exitNotExecutable, wrapped
	}
}

// fromTerminal reports whether the terminal has sent s to the whole foreground
// process group, child included: passing it on would deliver it twice. Go does
// not tell who sent a signal, so one that is sent by hand to larder alone, while
// it is in the foreground of a terminal, is taken for the terminal's.
func fromTerminal(s os.Signal) bool {
	switch s {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
	default:
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
