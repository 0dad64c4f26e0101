<?php
// Answers a request with what PHP itself has made of it: the model of $_POST and of $_REQUEST, which holds the query
// too, each serialized, so that octets that are no UTF-8 come through.
echo serialize([$_POST['model'] ?? null, $_REQUEST['model'] ?? null]);
