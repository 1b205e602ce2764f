// The search box: Pagefind's own, in the language of the page.
new PagefindUI({ element: "#search", showImages: false, showSubResults: true });
