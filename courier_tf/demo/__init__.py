"""The demo page: a ranking and its reasons in a browser, all answers by the model server."""
