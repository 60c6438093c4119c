package main

import (
	"errors"
	"io"

	"larder/admin"
	"larder/wheels"
)

// wheelAPI gives the admin listener the node's wheels in its words.
type wheelAPI struct {
	store   *wheels.Store
	counter *wheels.Counter
}

func (n *node) wheelAPI() admin.WheelAPI { return &wheelAPI{n.wheels, n.counter} }

func (a *wheelAPI) List() []admin.Wheel { return shownWheels(a.store.All()) }

func (a *wheelAPI) Remove(match string) ([]admin.Wheel, error) {
	removed, err := a.store.Remove(match)
	return shownWheels(removed), err
}

func (a *wheelAPI) Add(file string, source *admin.WheelSource, content io.Reader) (admin.Wheel, error) {
	var of *wheels.Source
	if source != nil {
		of = new(wheels.Source(*source))
	}
	w, err := a.store.Add(file, content, of)
	if errors.Is(err, wheels.ErrFull) {
		return admin.Wheel{}, withHint(err, "remove some with 'larder wheels rm', or raise wheels.max_size and start larder anew")
	}
	if err != nil {
		return admin.Wheel{}, err
	}
	return shownWheel(w), nil
}

func (a *wheelAPI) Wanted(n int) []admin.WantedSource {
	counted := a.counter.Top(n)
	all := make([]admin.WantedSource, len(counted))
	for i, c := range counted {
		all[i] = admin.WantedSource(c)
	}
	return all
}

func shownWheels(of []wheels.Wheel) []admin.Wheel {
	all := make([]admin.Wheel, len(of))
	for i := range of {
		all[i] = shownWheel(&of[i])
	}
	return all
}

func shownWheel(w *wheels.Wheel) admin.Wheel {
	shown := admin.Wheel{
		File: w.File, Project: w.Project, Version: w.Version, SHA256: w.SHA256, Size: w.Size, RequiresPython: w.RequiresPython, Added: w.Added,
	}
	if w.Source != nil {
		shown.Source = new(admin.WheelSource(*w.Source))
	}
	return shown
}
