package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
)

// Each goroutine makes its requests one after another; of HTTP/1.1, each has a connection of its own.
func client(url string, goroutines, count int, http2 bool) {
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:   http2,
		MaxIdleConnsPerHost: goroutines,
	}
	if !http2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	signals := awaitStart()
	for round := 0; ; round++ {
		if http2 {
			// One connection for all.
			request(transport, url, fmt.Sprintf("%d-first", round))
		}
		makeRequests(transport, url, goroutines, count, round, signals)
		if atOnce() {
			return
		}
		fmt.Println("done")
		<-signals
	}
}

func makeRequests(transport *http.Transport, url string, goroutines, count, round int, signals <-chan os.Signal) {
	var stop atomic.Value
	if count == 0 {
		go func() {
			<-signals
			stop.Store(true)
		}()
	}
	var all sync.WaitGroup
	for goroutine := 0; goroutine < goroutines; goroutine++ {
		all.Add(1)
		go func(goroutine int) {
			defer all.Done()
			for index := 0; index < count || count == 0 && stop.Load() == nil; index++ {
				request(transport, url, fmt.Sprintf("%d-%d-%d", round, goroutine, index))
			}
		}(goroutine)
	}
	all.Wait()
}

func request(transport *http.Transport, url, id string) {
	sizes := []int{0, 1, 100, 5000, 40000}
	method, path, body := "GET", fmt.Sprintf("/bytes/%d", sizes[len(id)%len(sizes)]), 0
	switch id[len(id)-1] {
	case '1':
		path = "/deep/3000"
	case '2':
		path = "/missing"
	case '3':
		method, path, body = "POST", "/upload", 20000
	}
	target := path + "?id=" + id
	r, err := http.NewRequest(method, url+target, bytes.NewReader(bytes.Repeat([]byte("u"), body)))
	check(err)
	var local, remote string
	trace := httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		local, remote = info.Conn.LocalAddr().String(), info.Conn.RemoteAddr().String()
	}}
	response, err := transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &trace)))
	check(err)
	received, err := io.Copy(io.Discard, response.Body)
	check(err)
	response.Body.Close()
	log(entry{"client", local, remote, target, version(response.ProtoMajor, response.ProtoMinor), response.StatusCode, body, int(received)})
}
