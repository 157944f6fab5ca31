-- Each node looks every second for what it is to stop and for what nobody writes any more: that must
-- not cost more the more turns there were.
CREATE INDEX turns_running ON turns (key) WHERE status = 'running';
