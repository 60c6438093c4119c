//go:build !linux

package mitm

import (
	"net"
	"time"
)

const kernelTimes = false

// sinceMoved is not known here; the copy notes it itself.
func sinceMoved(net.Conn) (time.Duration, bool) { return 0, false }
