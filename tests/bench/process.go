package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one server with its children, on the first core.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
}

// startProcess runs argv on the first core, logging to a file in dir.
func startProcess(dir, name string, argv []string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: log}
	p.cmd = exec.Command("taskset", append([]string{"-c", "0"}, argv...)...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return p, nil
}

// stop ends the process and returns once it is gone.
func (p *process) stop() {
	// The process may be gone already; then there is nothing to end.
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	gone := make(chan struct{})
	go func() { // ends with the process
		_ = p.cmd.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-gone
	}
	_ = p.log.Close()
}

// said is the end of what the process logged, for error messages.
func (p *process) said() string {
	text, _ := os.ReadFile(p.log.Name())
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// cpu is the user and system time that the process and its living children have
// used, to the nanosecond.
func (p *process) cpu() (time.Duration, error) {
	var total time.Duration
	for _, pid := range p.pids() {
		// include/linux/posix-timers.h: the clock of a process is the complement of
		// its number, shifted, with 2 for time as the scheduler counts it.
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
			return 0, fmt.Errorf("read the CPU time of %s: %w", p.name, err)
		}
		total += time.Duration(ts.Nano())
	}
	return total, nil
}

// anonymous is the resident memory that no file backs, in bytes: RSS would count
// the pages of the store's mapped files, which are the page cache's.
func (p *process) anonymous() (int64, error) {
	var total int64
	for _, pid := range p.pids() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, ok := strings.Cut(string(status), "RssAnon:")
		if !ok {
			return 0, fmt.Errorf("read the memory of %s: no RssAnon, the kernel is too old", p.name)
		}
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		total += n << 10
	}
	return total, nil
}

// pids are the process and all that descend from it.
func (p *process) pids() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, file := range files {
			text, _ := os.ReadFile(file) // gone: no child any more
			for _, word := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// takeLoadCores moves this process off the core that the servers use and
// returns how many cores that leaves; with a single core all share it.
func takeLoadCores() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, err
	}
	if set.Count() < 2 {
		return 1, nil
	}
	set.Clear(0)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	for _, task := range tasks { // every thread: threads made later inherit it
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return 0, err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return 0, err
		}
	}
	runtime.GOMAXPROCS(set.Count())
	return set.Count(), nil
}

// ownCPU is the time that the load itself has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
