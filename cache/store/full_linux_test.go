package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDiskIsAnErrorAndNotTheEnd runs childFullDisk in a mount namespace of
// its own: a SIGBUS would end the child, and this test would see it.
func TestFullDiskIsAnErrorAndNotTheEnd(t *testing.T) {
	t.Parallel()
	inNamespace(t, "full")
}

// inNamespace runs a child's part on an empty folder, in a mount namespace of its own.
func inNamespace(t *testing.T, part string) {
	t.Helper()
	cmd := child(t, part, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.Output()
	t.Logf("%s", out)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == skipped {
		// By seccomp, user.max_user_namespaces or AppArmor.
		t.Skipf("mount namespaces are not permitted here: %v", err)
	}
	if err != nil {
		t.Errorf("%s: %v", part, err)
	}
}

// mountOwn mounts a file system at root that nobody else sees.
func mountOwn(root, options string) error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("tmpfs", root, "tmpfs", 0, options)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: %w", errSkip, err)
	}
	return err
}

// TestReadOnlyMountIsToldAndHasNoSpace runs childReadOnly.
func TestReadOnlyMountIsToldAndHasNoSpace(t *testing.T) {
	t.Parallel()
	inNamespace(t, "readonly")
}

// childReadOnly mounts the file system of a store read-only and back.
func childReadOnly(args []string) error {
	root := args[0]
	if err := mountOwn(root, "size=100m"); err != nil {
		return err
	}
	o := Options{Dir: filepath.Join(root, "store"), MaxSize: 64 << 20}
	s, err := Open(o)
	if err != nil {
		return err
	}
	for n := range 10 {
		if err := tryFill(s, key(n), nil, content(n, 1<<20)); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount read-only: %w", err)
	}
	if free, err := freeSpace(root); free != 0 || err != nil {
		return fmt.Errorf("%d bytes are free on a read-only file system, %w", free, err)
	}
	if _, err := Open(o); !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("open on a read-only file system: %w", err)
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT, ""); err != nil {
		return fmt.Errorf("mount for writing: %w", err)
	}
	if s, err = Open(o); err != nil {
		return err
	}
	return errors.Join(allThere(s, 10), s.Close())
}

// childFullDisk fills a store on a small file system of its own, which somebody
// else's file fills too.
func childFullDisk(args []string) error {
	root := args[0]
	if err := mountOwn(root, "size=200m"); err != nil {
		return err
	}
	o := Options{Dir: filepath.Join(root, "store"), MaxSize: 4 << 30}
	s, err := Open(o)
	if err != nil {
		return err
	}
	stored := 0
	for err == nil && stored < 200 {
		if err = tryFill(s, key(stored), nil, content(stored, 1<<20)); err == nil {
			stored++
		}
	}
	fmt.Printf("%d objects of 1 MiB on a disk of 200: %v\n", stored, err)
	if !errors.Is(err, ErrNoSpace) || stored < 50 {
		return fmt.Errorf("%d objects stored, then: %w", stored, err)
	}
	if err := allThere(s, stored); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		return err
	}
	return beside(root)
}

// allThere checks the objects that were stored.
func allThere(s *Store, n int) error {
	for i := range n {
		o, err := s.Get(key(i))
		if err != nil {
			return fmt.Errorf("object %d: %w", i, err)
		}
		got := make([]byte, o.Size())
		_, err = o.ReadAt(got, 0)
		o.Release()
		if err != nil || string(got) != string(content(i, 1<<20)) {
			return fmt.Errorf("object %d differs, %w", i, err)
		}
	}
	return nil
}

// beside writes to a store while another file takes all the space and gives it
// back, over and over, at instants that have nothing to do with the writes.
func beside(root string) error {
	o := Options{Dir: filepath.Join(root, "store2"), MaxSize: 4 << 30}
	s, err := Open(o)
	if err != nil {
		return err
	}
	if err := beginWithoutSpace(root, s); err != nil {
		return err
	}
	if err := goOnWithoutSpace(root, s); err != nil {
		return err
	}
	started := s.Stats().Objects
	// Now and then Badger creates files, and nobody can reserve for that.
	if err := s.Put(key(0), nil); err != nil {
		return err
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	var hogged atomic.Int64
	wg.Go(func() {
		for !done.Load() {
			if hog(root) == nil {
				hogged.Add(1)
			}
		}
	})
	refused, taken := 0, 0
	// However the two are scheduled, some are taken and some refused before the end. The
	// bound keeps the entries within Badger's first write-ahead log: where that ends
	// is what nobody can reserve, see space.go.
	enough := func() bool { return hogged.Load() >= int64(turns(20, 100)) && taken > 0 && refused > 0 }
	for n := 1; taken < 5000 && !enough() && err == nil; n++ {
		err = tryFill(s, key(n), nil, content(n, []int{2 << 10, 100 << 10, 1200 << 10}[n%3]))
		switch {
		case errors.Is(err, ErrNoSpace):
			refused++
			err = nil
		case err == nil:
			taken++
		}
	}
	done.Store(true)
	wg.Wait()
	fmt.Printf("%d fills taken, %d refused, beside a file that took all space %d times\n", taken, refused, hogged.Load())
	if err != nil {
		return err
	}
	if refused == 0 || taken == 0 {
		return fmt.Errorf("%d fills refused, %d taken", refused, taken)
	}
	if err := fullClose(root, s); err != nil {
		return err
	}
	// Space is back: everything is there, and fills are taken again.
	if err := unix.Mount("", root, "", unix.MS_REMOUNT, "size=500m"); err != nil {
		return fmt.Errorf("make the disk larger: %w", err)
	}
	s, err = Open(o)
	if err != nil {
		return fmt.Errorf("open after a full disk: %w", err)
	}
	for info, err := range s.All() {
		if err != nil {
			return err
		}
		object, err := s.Get(info.Key)
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = object.WriteRange(hash, 0, object.Size())
		object.Release()
		if err != nil || [32]byte(hash.Sum(nil)) != info.SHA256 {
			return fmt.Errorf("object differs after a full disk, %w", err)
		}
	}
	if n := s.Stats().Objects; n != taken+started+1 {
		return fmt.Errorf("%d objects after a full disk, %d were stored", n, taken+started+1)
	}
	if err := tryFill(s, key(200_000), []byte("x"), content(1, 1000)); err != nil {
		return fmt.Errorf("a fill when space is back: %w", err)
	}
	return s.Close()
}

// beginWithoutSpace begins a generation when no block is left, as when somebody
// took all the space after the store had looked.
func beginWithoutSpace(root string, s *Store) error {
	f, err := os.Create(filepath.Join(root, "hog"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := takeAll(root, f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.opts.free = func(string) (int64, error) { return 1 << 40, nil }
	defer func() { s.opts.free = freeSpace }()
	faults := 0
	for pages := range int64(8) {
		// A little is left, so that each of the files is the one that is in want.
		if err := f.Truncate(info.Size() - pages*int64(os.Getpagesize())); err != nil {
			return err
		}
		err = s.Put(key(0), nil)
		if !errors.Is(err, ErrNoSpace) {
			return fmt.Errorf("begin a generation with %d pages left: %w", pages, err)
		}
		if errors.Is(err, errFault) {
			faults++
		}
		if n := s.Stats().Generations; n != 0 {
			return fmt.Errorf("%d generations", n)
		}
	}
	if faults == 0 {
		return errors.New("no generation met a page that could not be written")
	}
	return nil
}

// goOnWithoutSpace writes to a generation that is begun when no block is left, as when
// somebody took all the space after the store had looked. What saves the process from
// a fault in Badger's own goroutines is that blocks are reserved before.
func goOnWithoutSpace(root string, s *Store) error {
	if err := tryFill(s, key(300_000), nil, content(300_000, 100)); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(root, "hog"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := takeAll(root, f); err != nil {
		return err
	}
	s.opts.free = func(string) (int64, error) { return 1 << 40, nil }
	defer func() { s.opts.free = freeSpace }()
	// At first there is what was reserved ahead.
	for n := 300_001; ; n++ {
		switch err := tryFill(s, key(n), nil, content(n, 1<<20)); {
		case errors.Is(err, ErrNoSpace) && !errors.Is(err, errFault):
			return nil
		case err != nil:
			return fmt.Errorf("an object on a disk without space: %w", err)
		case n > 300_050:
			return errors.New("50 MiB were written to a disk without space")
		}
	}
}

// fullClose tries to write and closes the store while no block is free.
func fullClose(root string, s *Store) error {
	f, err := os.Create(filepath.Join(root, "hog"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := takeAll(root, f); err != nil {
		return err
	}
	if err := s.Put(key(-1), nil); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("a small object on a full disk: %w", err)
	}
	return s.Close()
}

// hog takes all free space for a moment.
func hog(root string) error {
	f, err := os.Create(filepath.Join(root, "hog"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return takeAll(root, f)
}

func takeAll(root string, f *os.File) error {
	free, err := freeSpace(root)
	if err != nil {
		return err
	}
	return unix.Fallocate(int(f.Fd()), 0, 0, free)
}

// wroteToDisk is what this process has dirtied on disks, from the kernel's accounting.
func wroteToDisk(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var n int64
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	t.Fatal("no write_bytes in /proc/self/io")
	return 0
}

// parts are the parts of a child that need Linux.
func parts() map[string]func([]string) error {
	return map[string]func([]string) error{"full": childFullDisk, "readonly": childReadOnly}
}
